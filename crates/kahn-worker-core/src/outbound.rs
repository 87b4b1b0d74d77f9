//! Reports on their way out.
//!
//! That an attempt has started is told after a short while and not at once: most short attempts
//! have ended by then, and are told as one report, since the end says for how long they ran. Each
//! report that comes alone costs the coordinator a round of its own, so this halves its work.

use std::collections::{BTreeMap, VecDeque};

use kahn_model::{Timestamp, Token};

use crate::event::Report;

/// Reports that were not handed to the stream yet.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// Starts that are not due yet.
    starts: BTreeMap<Token, Report>,
    /// When each start is due, the soonest first; the first one is always in `starts`.
    due: VecDeque<(Timestamp, Token)>,
    ready: VecDeque<Report>,
}

impl Outbound {
    /// Adds a start, to be told at `due`, which is no sooner than that of any before it.
    pub(crate) fn push_start(&mut self, due: Timestamp, report: Report) {
        self.due.push_back((due, report.token));
        self.starts.insert(report.token, report);
    }

    /// Adds a report that is due; one of a start of the same lease is not needed any more.
    pub(crate) fn push(&mut self, report: Report) {
        self.starts.remove(&report.token);
        self.drop_stale();
        self.ready.push_back(report);
    }

    /// Makes ready what is due.
    pub(crate) fn ripen(&mut self, now: Timestamp) {
        while let Some((due, token)) = self.due.front()
            && *due <= now
        {
            self.ready.extend(self.starts.remove(token));
            self.drop_stale();
        }
    }

    /// When the next start is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.front().map(|(due, _)| *due)
    }

    fn drop_stale(&mut self) {
        while let Some((_, token)) = self.due.front()
            && !self.starts.contains_key(token)
        {
            self.due.pop_front();
        }
    }

    /// Takes out up to `max` reports that are ready.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Report> {
        let n = max.min(self.ready.len());
        self.ready.drain(..n).collect()
    }

    /// Forgets everything: a new stream starts with an inventory, which says it all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing is ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}
