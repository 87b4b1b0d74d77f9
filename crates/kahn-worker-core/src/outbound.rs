//! Reports on their way out, in order.
//!
//! An attempt that starts and ends before anything could be sent is told as one report: the end
//! says for how long it ran.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kahn_model::{Timestamp, Token};

use crate::event::{Report, ReportKind};

/// How long reports gather. A message costs the worker, the coordinator and its store as much as
/// dozens of reports do, and they run on the machines that the tasks want.
const GATHER: Duration = Duration::from_millis(5);
/// A report waits for others only while there are more leases at hand than this for each: so the
/// next ones come before the worker runs out, and a task that is alone is told of at once.
const AT_HAND_PER_REPORT: usize = 3;
/// Where so many come together by themselves there is nothing more to gain.
const ENOUGH: usize = 32;

/// Reports that were not handed to the stream yet.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    reports: VecDeque<Option<Report>>,
    /// Position of each waiting start, counted over all reports that ever waited.
    starts: BTreeMap<Token, u64>,
    n_taken: u64,
    /// When the first of those that wait came.
    since: Option<Timestamp>,
    /// Whether somebody waits for one of them.
    is_urgent: bool,
}

impl Outbound {
    pub(crate) fn push(&mut self, report: Report) {
        let position = self.n_taken + self.len();
        // What it was to have waits for another worker.
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
        if self.is_empty() {
            self.rest();
        }
        out
    }

    /// Forgets everything: a new stream starts with an inventory, which says it all.
    pub(crate) fn clear(&mut self) {
        self.n_taken += self.len();
        self.reports.clear();
        self.starts.clear();
        self.rest();
    }

    fn rest(&mut self) {
        self.since = None;
        self.is_urgent = false;
    }

    /// What waits and did not before waits from now on.
    pub(crate) fn wait_from(&mut self, now: Timestamp) {
        if !self.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// When those that wait are to be sent at the latest, if a worker that has `n_at_hand` leases
    /// to go on with does not hurry.
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
