//! Requests that no known worker could ever take.

use std::fmt::Write as _;

use kahn_model::LabelRule;

use crate::core::Core;
use crate::state::{Class, ClassIx, Timer};

impl Core {
    /// Starts the clock of a class that no known worker suits; does nothing if it runs already or
    /// if there is no worker at all, since then the first may yet suit.
    pub(crate) fn schedule_watch_over(&mut self, class: ClassIx) {
        if self.state.pool.watched.contains(&class) {
            return;
        }
        if self.infeasibility(class).is_some() {
            self.state.pool.watched.insert(class);
            let at = self.state.now + self.state.settings.infeasible_grace;
            self.state.timers.set(at, Timer::Infeasible(class));
        }
    }

    /// What no present worker has of that which the class asks for; `None` when one has it all.
    pub(crate) fn infeasibility(&self, class: ClassIx) -> Option<String> {
        let class = self.state.classes.get(class);
        if self.state.pool.groups().any(|group| class.suits(&group.shape)) {
            return None;
        }
        let mut present = self
            .state
            .workers
            .iter()
            .filter(|w| w.status.is_present() && !w.shape.executors.is_empty());
        let mut reasons = Vec::new();
        for worker in &mut present {
            if class.suits(&worker.shape) {
                return None;
            }
            reasons.push((worker.id.clone(), reason(class, &worker.shape)));
        }
        let n = reasons.len();
        let (id, reason) = reasons.into_iter().next()?;
        let mut message = format!("no worker can run it: {id} {reason}");
        if n > 1 {
            write!(message, ", and {} more cannot either", n - 1).expect("invariant: a string");
        }
        Some(message)
    }
}

fn reason(class: &Class, shape: &crate::state::Shape) -> String {
    if !shape.executors.contains(&class.kind) {
        return format!("has no executor for {}", class.kind);
    }
    if let Some((resource, want, have)) = class.resources.shortage(&shape.capacity) {
        let amount = |n| kahn_model::Resources::none().with(&resource, n).to_string();
        let have = if have == 0 { format!("no {resource}") } else { amount(have) };
        return format!("has {have}, {} is asked for", amount(want));
    }
    let unmet = class.selector.required.iter().find(|rule| !rule.matches(&shape.labels));
    match unmet {
        Some(LabelRule::Exists { key }) => match key.split_once('/') {
            Some((what @ ("function" | "secret"), name)) => format!("has no {what} `{name}`"),
            _ => format!("does not have the label {key}"),
        },
        Some(rule) => format!("does not have the label {rule}"),
        None => "does not suit".to_owned(),
    }
}
