//! Queries on archived runs, and on all runs whether they are archived or not.

use std::iter::Peekable;

use kahn_model::RunId;

use super::State;
use crate::state::Run;
use crate::summary::{ArchivedRun, RunSummary};

impl State {
    /// Returns the archived run with this id.
    #[must_use]
    pub fn archived_run(&self, id: RunId) -> Option<&ArchivedRun> {
        self.archived.get(&id)
    }

    /// Returns all archived runs, ordered by id.
    pub fn archived_runs(&self) -> impl Iterator<Item = &ArchivedRun> {
        self.archived.values()
    }

    /// Returns the number of archived runs.
    #[must_use]
    pub fn n_archived(&self) -> usize {
        self.archived.len()
    }

    /// Returns the total size of the archived runs of which only the summaries are in memory, in
    /// bytes.
    #[must_use]
    pub fn archived_bytes(&self) -> u64 {
        self.archived_bytes
    }

    /// Returns the summary of a run, archived or not.
    #[must_use]
    pub fn summary(&self, id: RunId) -> Option<RunSummary<'_>> {
        match self.run(id) {
            Some(run) => Some(run.summary()),
            None => self.archived_run(id).map(ArchivedRun::summary),
        }
    }

    /// Returns the summaries of the runs with ids below `before`, archived or not, newest first.
    pub fn summaries_before(&self, before: Option<RunId>) -> impl Iterator<Item = RunSummary<'_>> {
        let archived = match before {
            Some(id) => self.archived.range(..id),
            None => self.archived.range(..),
        };
        let archived = archived.rev().map(|(_, run)| run.summary());
        NewestFirst {
            one: self.runs_before(before).map(Run::summary).peekable(),
            other: archived.peekable(),
        }
    }

    /// Returns the ids from `first` to `last` inclusive of all runs, archived or not, in order.
    #[must_use]
    pub fn ids_between(&self, first: RunId, last: RunId) -> Vec<RunId> {
        let archived = self.archived.range(first..=last).map(|(id, _)| *id);
        let mut ids: Vec<RunId> = self.runs_between(first, last).map(Run::id).collect();
        ids.extend(archived);
        ids.sort_unstable();
        ids
    }

    pub(crate) fn insert_archived(&mut self, run: ArchivedRun) {
        self.archived_bytes = self.archived_bytes.saturating_add(run.archive.bytes);
        self.archived.insert(run.run, run);
    }

    pub(crate) fn remove_archived(&mut self, id: RunId) -> Option<ArchivedRun> {
        let run = self.archived.remove(&id)?;
        self.archived_bytes = self.archived_bytes.saturating_sub(run.archive.bytes);
        Some(run)
    }
}

/// Merges two sequences of summaries, each ordered by descending id.
struct NewestFirst<A: Iterator, B: Iterator> {
    one: Peekable<A>,
    other: Peekable<B>,
}

impl<'a, A, B> Iterator for NewestFirst<A, B>
where
    A: Iterator<Item = RunSummary<'a>>,
    B: Iterator<Item = RunSummary<'a>>,
{
    type Item = RunSummary<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.one.peek(), self.other.peek()) {
            (Some(one), Some(other)) if one.run < other.run => self.other.next(),
            (Some(_), _) => self.one.next(),
            (None, _) => self.other.next(),
        }
    }
}
