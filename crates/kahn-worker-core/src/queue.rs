//! The queue of leases that wait for free resources.
//!
//! Thousands of leases can end per second while thousands wait, so finding the next one must not
//! scan all of them. Leases that request equal resources share a line, and only the first of each
//! line is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_model::{Resources, Token};

/// Leases that wait for free resources, grouped by the resources that they request.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Never contains an empty line.
    lines: BTreeMap<Arc<Resources>, BTreeSet<Token>>,
}

impl Queue {
    /// Adds a lease that requests `resources`.
    pub(crate) fn insert(&mut self, resources: &Arc<Resources>, token: Token) {
        match self.lines.get_mut(resources) {
            Some(line) => line.insert(token),
            None => self.lines.entry(Arc::clone(resources)).or_default().insert(token),
        };
    }

    /// Removes a lease. Returns whether it was queued.
    pub(crate) fn remove(&mut self, resources: &Resources, token: Token) -> bool {
        let Some(line) = self.lines.get_mut(resources) else { return false };
        let was_there = line.remove(&token);
        if line.is_empty() {
            self.lines.remove(resources);
        }
        was_there
    }

    /// Removes and returns the oldest lease that fits into `room`. The coordinator computes
    /// placements in the same way.
    pub(crate) fn take_first_that_fits(&mut self, room: &Resources) -> Option<Token> {
        let fitting = self.lines.iter().filter(|(resources, _)| resources.fits(room));
        let first = fitting.filter_map(|(resources, line)| Some((*line.first()?, resources))).min();
        let (token, resources) = first.map(|(token, resources)| (token, Arc::clone(resources)))?;
        self.remove(&resources, token);
        Some(token)
    }

    /// Returns the number of waiting leases.
    pub(crate) fn len(&self) -> usize {
        self.lines.values().map(BTreeSet::len).sum()
    }

    /// Returns all waiting leases, oldest first.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.lines.values().flatten().copied().collect();
        tokens.sort_unstable();
        tokens
    }
}
