//! The queue of outgoing reports, in order.
//!
//! If an attempt ends before the report of its start was sent, only the end is reported, which
//! includes the run time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kahn_model::{Timestamp, Token};

use crate::event::{Report, ReportKind};

/// How long reports are batched. A message costs the worker, the coordinator and its store as much
/// as dozens of reports, and they share their hosts with the tasks.
const GATHER: Duration = Duration::from_millis(5);
/// Reports are batched only while there are more queued leases than this per report. New leases
/// then arrive before the worker is idle, and a single task is reported immediately.
const AT_HAND_PER_REPORT: usize = 3;
/// Number of reports from which on batching longer gains nothing.
const ENOUGH: usize = 32;

/// Reports that were not passed to the stream yet.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    reports: VecDeque<Option<Report>>,
    /// Position of each waiting start, counted over all reports ever queued.
    starts: BTreeMap<Token, u64>,
    n_taken: u64,
    /// When the first waiting report was queued.
    since: Option<Timestamp>,
    /// Whether one of the reports must not be delayed.
    is_urgent: bool,
}

impl Outbound {
    pub(crate) fn push(&mut self, report: Report) {
        let position = self.n_taken + self.len();
        // The returned lease is to be given to another worker.
        self.is_urgent |= report.kind == ReportKind::Returned;
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

    /// Removes and returns up to `max` reports.
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
        if self.is_empty() {
            self.reset_due();
        }
        out
    }

    /// Removes all reports: a new stream starts with an inventory, which replaces them.
    pub(crate) fn clear(&mut self) {
        self.n_taken += self.len();
        self.reports.clear();
        self.starts.clear();
        self.reset_due();
    }

    fn reset_due(&mut self) {
        self.since = None;
        self.is_urgent = false;
    }

    /// Records `now` as the time of the first waiting report, unless one was waiting before.
    pub(crate) fn wait_from(&mut self, now: Timestamp) {
        if !self.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// Returns when the waiting reports must be sent, for a worker with `n_at_hand` queued leases.
    pub(crate) fn due(&self, n_at_hand: usize) -> Option<Timestamp> {
        let since = self.since.filter(|_| !self.is_empty())?;
        let n_reports = self.reports.len();
        let is_rich = n_reports.saturating_mul(AT_HAND_PER_REPORT) < n_at_hand;
        let is_patient = is_rich && n_reports < ENOUGH && !self.is_urgent;
        Some(if is_patient { since + GATHER } else { since })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reports.iter().all(Option::is_none)
    }
}
