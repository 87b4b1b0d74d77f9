//! Requests that no known worker could ever satisfy.

use std::fmt::Write as _;

use kahn_model::{Dag, LabelRule, Namespace, Resources, TaskIx};

use crate::apply::class_of_first_attempt;
use crate::core::Core;
use crate::state::{Class, ClassIx, Shape, Timer};

/// What a worker of this shape lacks to ever run `task` in `namespace`: a fragment that goes on
/// from the name of the worker, such as `has no executor for container`. `None` when it can run it.
#[must_use]
pub fn shortage(dag: &Dag, namespace: &Namespace, task: TaskIx, shape: &Shape) -> Option<String> {
    let class = class_of_first_attempt(dag, namespace, task);
    (!class.suits(shape)).then(|| reason(&class, shape))
}

impl Core {
    /// Starts the timer of a class that no known worker suits. Does nothing if the timer is already
    /// running, or if there are no workers yet, since the first one may suit.
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

    /// Returns what the present workers lack for the class, or `None` if one of them suits it, or a
    /// worker of a pool would that may have none now.
    pub(crate) fn infeasibility(&self, class: ClassIx) -> Option<String> {
        let class = self.state.classes.get(class);
        if self.state.pool.groups().any(|group| class.suits(&group.shape))
            || self.state.known_pools.iter().any(|pool| pool.suits(class))
        {
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

fn reason(class: &Class, shape: &Shape) -> String {
    if !shape.executors.contains(&class.kind) {
        return format!("has no executor for {}", class.kind);
    }
    if let Some((resource, want, have)) = class.resources.shortage(&shape.capacity) {
        let amount = |n| Resources::none().with(&resource, n);
        let (want, exact) = (amount(want), amount(have));
        let have = match (exact.rounded().to_string(), want.rounded().to_string()) {
            _ if have == 0 => format!("no {resource}"),
            // The difference is too small to be seen.
            (have, want) if have == want => exact.to_string(),
            (have, _) => have,
        };
        return format!("has {have}, {} is asked for", want.rounded());
    }
    let unmet = class.selector.required.iter().find(|rule| !rule.matches(&shape.labels));
    match unmet {
        Some(LabelRule::Exists { key }) => match key.split_once('/') {
            Some((what @ ("function" | "secret"), name)) => format!("has no {what} `{name}`"),
            _ => format!("does not have the label {key}"),
        },
        Some(rule) => format!("does not have the label {rule}"),
        None => withheld(class, shape).unwrap_or_else(|| "does not suit".to_owned()),
    }
}

fn withheld(class: &Class, shape: &Shape) -> Option<String> {
    let (secret, namespace) = (class.withheld_secret(&shape.labels)?, class.secrets_of.as_ref()?);
    Some(format!("does not give secret `{secret}` to namespace `{namespace}`"))
}
