//! Keeps unacknowledged results on disk. Results that are acknowledged soon are never written.

use std::collections::BTreeMap;

use bytes::Bytes;
use kahn_model::{AttemptId, Timestamp, Token};
use kahn_worker_core::Report;
use prost::Message as _;
use tracing::warn;

use crate::spool::Spool;
use crate::wire;

/// Returns the results that a previous process of the worker left in the spool.
pub(crate) fn left_behind(spool: &Spool) -> Vec<Report> {
    let mut reports = Vec::new();
    for (attempt, bytes) in spool.pending() {
        let report = kahn_proto::worker::Report::decode(bytes.clone())
            .map_err(wire::Unreadable::from)
            .and_then(wire::report_from_wire);
        match report {
            Ok(report) => reports.push(report),
            Err(error) => warn!(run = %attempt.run, %error, "a spooled result cannot be read"),
        }
    }
    reports
}

/// Unacknowledged results, buffered or in the spool.
#[derive(Debug)]
pub(super) struct Keeping {
    spool: Spool,
    young: BTreeMap<Token, Report>,
    written: BTreeMap<Token, AttemptId>,
    due: Option<Timestamp>,
}

impl Keeping {
    pub(super) fn new(spool: Spool) -> Self {
        let written = left_behind(&spool).into_iter().map(|r| (r.token, r.attempt)).collect();
        Self { spool, young: BTreeMap::new(), written, due: None }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    pub(super) fn keep(&mut self, due: Timestamp, report: Report) {
        self.young.insert(report.token, report);
        self.due.get_or_insert(due);
    }

    pub(super) fn forget(&mut self, token: Token) {
        if self.young.remove(&token).is_none()
            && let Some(attempt) = self.written.remove(&token)
        {
            self.spool.ack(attempt);
        }
        if self.young.is_empty() && !self.spool.is_dirty() {
            self.due = None;
        }
    }

    pub(super) fn write_if_due(&mut self, now: Timestamp) {
        if self.due.is_some_and(|due| due <= now) {
            self.write_now();
        }
    }

    pub(super) fn write_now(&mut self) {
        self.due = None;
        for (token, report) in std::mem::take(&mut self.young) {
            let bytes = Bytes::from(wire::report_to_wire(&report).encode_to_vec());
            self.spool.put(report.attempt, bytes);
            self.written.insert(token, report.attempt);
        }
        if let Err(error) = self.spool.flush() {
            warn!(%error, "results not written; a crash now would cost another attempt");
        }
    }
}
