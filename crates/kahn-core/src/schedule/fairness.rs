//! Fair share between namespaces.

use std::collections::BTreeSet;

use kahn_model::Namespace;

use crate::core::Core;
use crate::state::{ClassIx, LaneIx, NamespaceIx, Rank};

/// A namespace with the share it holds. Ties are broken by name and not by index, since the index
/// depends on the order of submission.
type NamespaceShare = (u64, Namespace, NamespaceIx);

/// The namespaces with tasks to place, the one with the smallest share first.
#[derive(Debug, Default)]
pub(super) struct NamespaceQueue {
    order: BTreeSet<NamespaceShare>,
    /// Classes that are excluded from the rest of the pass.
    full: BTreeSet<ClassIx>,
}

impl NamespaceQueue {
    /// Excludes a class from now on.
    pub(super) fn exclude(&mut self, class: ClassIx) {
        self.full.insert(class);
    }
}

impl Core {
    pub(super) fn namespace_queue(&mut self) -> NamespaceQueue {
        let namespaces: Vec<NamespaceIx> = self.state.ready.namespaces().collect();
        // A single namespace needs no comparison.
        if namespaces.len() > 1 && self.state.pool.total.is_none() {
            self.state.pool.total = Some(self.state.total_capacity());
        }
        let order = namespaces.into_iter().map(|ix| self.namespace_share(ix)).collect();
        NamespaceQueue { order, full: BTreeSet::new() }
    }

    /// Returns the share of a namespace: its dominant share of the total capacity.
    fn namespace_share(&self, ix: NamespaceIx) -> NamespaceShare {
        let held = self.state.namespaces.held(ix);
        let total = self.state.pool.total.as_ref();
        let share = total.map_or(0, |total| held.resources.dominant_share(total));
        (share + held.n_leases, self.state.namespaces.get(ix).clone(), ix)
    }

    /// Returns the best lane of the namespace with the smallest share.
    pub(super) fn next_lane(&self, queue: &mut NamespaceQueue) -> Option<(ClassIx, LaneIx)> {
        while let Some((_, _, namespace)) = queue.order.first() {
            if let Some((_, class, lane)) = self.best_lane(*namespace, &queue.full) {
                return Some((class, lane));
            }
            queue.order.pop_first();
        }
        None
    }

    /// Records a grant to the first namespace of the queue.
    pub(super) fn requeue_first(&self, queue: &mut NamespaceQueue) {
        if let Some((_, _, namespace)) = queue.order.pop_first() {
            queue.order.insert(self.namespace_share(namespace));
        }
    }

    fn best_lane(
        &self,
        namespace: NamespaceIx,
        full: &BTreeSet<ClassIx>,
    ) -> Option<(Rank, ClassIx, LaneIx)> {
        self.state
            .ready
            .heads(namespace)
            .filter(|(_, class, _)| !full.contains(class))
            .min_by_key(|(rank, _, lane)| (*rank, *lane))
    }
}
