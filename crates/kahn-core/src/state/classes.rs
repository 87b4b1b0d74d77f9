//! Request classes: tasks with the same requirements are placed as a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::{ActionKind, Circuit, ConcurrencyKey, Labels, Resources, Selector};

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
}

impl Class {
    /// Returns whether a worker of this shape could run the class if it were empty.
    pub(crate) fn suits(&self, shape: &Shape) -> bool {
        shape.executors.contains(&self.kind)
            && self.resources.fits(&shape.capacity)
            && self.selector.allows(&shape.labels)
    }

    pub(crate) fn preference(&self, labels: &Labels) -> usize {
        self.selector.preference(labels)
    }
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
