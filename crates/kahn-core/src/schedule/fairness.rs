//! Whose turn it is.

use std::collections::BTreeSet;

use crate::core::Core;
use crate::state::{ClassIx, LaneIx, NamespaceIx, Rank};

impl Core {
    /// The best lane of the namespace that holds least, of those whose class is not `full`.
    pub(super) fn next_lane(&self, full: &BTreeSet<ClassIx>) -> Option<(ClassIx, LaneIx)> {
        let ready = &self.state.ready;
        let best = |namespace: NamespaceIx| -> Option<(Rank, ClassIx, LaneIx)> {
            ready
                .heads(namespace)
                .filter(|(_, class, _)| !full.contains(class))
                .min_by_key(|(rank, _, lane)| (*rank, *lane))
        };
        let mut namespaces = ready.namespaces();
        let first = namespaces.next()?;
        let Some(second) = namespaces.next() else {
            return best(first).map(|(_, class, lane)| (class, lane));
        };
        let total = self.state.total_capacity();
        [first, second]
            .into_iter()
            .chain(namespaces)
            .filter_map(|namespace| {
                let held = self.state.namespaces.held(namespace);
                let share = held.resources.dominant_share(&total) + held.n_leases;
                best(namespace).map(|(_, class, lane)| (share, namespace, class, lane))
            })
            .min_by_key(|(share, namespace, ..)| (*share, *namespace))
            .map(|(_, _, class, lane)| (class, lane))
    }
}
