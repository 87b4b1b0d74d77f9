//! Request classes: tasks with the same requirements are placed as a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::{
    ActionKind, Circuit, ConcurrencyKey, LabelRule, Labels, Namespace, Resources, SecretUse,
    Selector,
};

use super::worker::Shape;

/// Index of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassIx(pub u32);

impl ClassIx {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).expect("invariant: usize holds u32")
    }
}

/// The requirements that decide where and whether a ready task may run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub resources: Arc<Resources>,
    pub selector: Selector,
    pub kind: ActionKind,
    pub concurrency: Vec<ConcurrencyKey>,
    pub circuit: Option<Circuit>,
    /// The namespace of a task that uses secrets, since workers may restrict these to namespaces.
    pub secrets_of: Option<Namespace>,
}

impl Class {
    /// Returns whether a worker of this shape could run the class if it were empty.
    pub(crate) fn suits(&self, shape: &Shape) -> bool {
        shape.executors.contains(&self.kind)
            && self.resources.fits(&shape.capacity)
            && self.selector.allows(&shape.labels)
            && self.withheld_secret(&shape.labels).is_none()
    }

    /// Returns a required secret that a worker with these labels has, but not for the namespace of
    /// the task.
    pub(crate) fn withheld_secret(&self, labels: &Labels) -> Option<&str> {
        let namespace = self.secrets_of.as_ref()?;
        self.selector.required.iter().find_map(|rule| {
            let (label, secret) = secret_of(rule)?;
            let value = labels.get(label)?;
            (!SecretUse::is_for(value, namespace)).then_some(secret)
        })
    }

    pub(crate) fn preference(&self, labels: &Labels) -> usize {
        self.selector.preference(labels)
    }
}

/// Returns the label and the name of the secret that a rule requires, if it requires one.
pub(crate) fn secret_of(rule: &LabelRule) -> Option<(&str, &str)> {
    let LabelRule::Exists { key } = rule else { return None };
    SecretUse::of_label(key).map(|secret| (key.as_str(), secret))
}

/// All known classes.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    known: Vec<Arc<Class>>,
    by_content: BTreeMap<Arc<Class>, ClassIx>,
}

impl Classes {
    pub(crate) fn intern(&mut self, class: Class) -> ClassIx {
        if let Some(ix) = self.by_content.get(&class) {
            return *ix;
        }
        let ix = ClassIx(u32::try_from(self.known.len()).expect("invariant: below 2^32 classes"));
        let class = Arc::new(class);
        self.known.push(Arc::clone(&class));
        self.by_content.insert(class, ix);
        ix
    }

    pub(crate) fn get(&self, ix: ClassIx) -> &Arc<Class> {
        &self.known[ix.index()]
    }
}
