//! Reports on their way out, in order.
//!
//! An attempt that starts and ends before anything could be sent is told as one report: the end
//! says for how long it ran.

use std::collections::{BTreeMap, VecDeque};

use kahn_model::Token;

use crate::event::{Report, ReportKind};

/// Reports that were not handed to the stream yet.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    reports: VecDeque<Option<Report>>,
    /// Position of each waiting start, counted over all reports that ever waited.
    starts: BTreeMap<Token, u64>,
    n_taken: u64,
}

impl Outbound {
    pub(crate) fn push(&mut self, report: Report) {
        let position = self.n_taken + self.len();
        match report.kind {
            ReportKind::Started => {
                self.starts.insert(report.token, position);
            }
            ReportKind::Finished { .. } | ReportKind::Returned => self.drop_start(report.token),
        }
        self.reports.push_back(Some(report));
    }

    fn drop_start(&mut self, token: Token) {
        let Some(position) = self.starts.remove(&token) else { return };
        let at = usize::try_from(position - self.n_taken).expect("invariant: it still waits");
        self.reports[at] = None;
    }

    fn len(&self) -> u64 {
        u64::try_from(self.reports.len()).expect("invariant: u64 holds usize")
    }

    /// Takes out up to `max` reports.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Report> {
        let mut out = Vec::new();
        while out.len() < max
            && let Some(entry) = self.reports.pop_front()
        {
            self.n_taken += 1;
            if let Some(report) = entry {
                self.starts.remove(&report.token);
                out.push(report);
            }
        }
        out
    }

    /// Forgets everything: a new stream starts with an inventory, which says it all.
    pub(crate) fn clear(&mut self) {
        self.n_taken += self.len();
        self.reports.clear();
        self.starts.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reports.iter().all(Option::is_none)
    }
}
