//! Leases that wait for room.
//!
//! A lease ends thousands of times a second while thousands wait, so looking for the next one
//! must not cost a look at each: those that ask for the same stand in one line, and only the
//! first of each line is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_model::{Resources, Token};

/// Leases that wait for room, by what they ask for.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// No line is empty.
    lines: BTreeMap<Arc<Resources>, BTreeSet<Token>>,
}

impl Queue {
    /// Adds a lease that asks for `resources`.
    pub(crate) fn insert(&mut self, resources: &Arc<Resources>, token: Token) {
        match self.lines.get_mut(resources) {
            Some(line) => line.insert(token),
            None => self.lines.entry(Arc::clone(resources)).or_default().insert(token),
        };
    }

    /// Takes a lease out; says whether it was there.
    pub(crate) fn remove(&mut self, resources: &Resources, token: Token) -> bool {
        let Some(line) = self.lines.get_mut(resources) else { return false };
        let was_there = line.remove(&token);
        if line.is_empty() {
            self.lines.remove(resources);
        }
        was_there
    }

    /// Takes out the oldest of those that fit into `room`; the coordinator reckons alike.
    pub(crate) fn take_first_that_fits(&mut self, room: &Resources) -> Option<Token> {
        let fitting = self.lines.iter().filter(|(resources, _)| resources.fits(room));
        let first = fitting.filter_map(|(resources, line)| Some((*line.first()?, resources))).min();
        let (token, resources) = first.map(|(token, resources)| (token, Arc::clone(resources)))?;
        self.remove(&resources, token);
        Some(token)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.lines.values().map(BTreeSet::len).sum()
    }

    /// All that wait, the oldest first.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.lines.values().flatten().copied().collect();
        tokens.sort_unstable();
        tokens
    }
}
