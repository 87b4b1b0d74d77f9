//! Sends released commands. Leases for one worker in one round are sent in one message.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_core::{Command, Core, Grant, SessionId, StopReason};
use kahn_model::{AttemptId, Token};
use kahn_proto::worker::{
    CoordinatorMessage, Drain, HeartbeatReceipt, Instructions, Lease, LeaseId, Stop, Welcome,
    coordinator_message,
};

use super::assignments::Assignments;
use crate::evaluate::Evaluators;
use crate::grpc::wire;
use crate::sessions::{Outbound, Sessions};
use crate::watchers::Watchers;

/// Maximum number of leases per message, which keeps messages well below the size limit.
const LEASES_PER_MESSAGE: usize = 4096;

pub(super) struct Dispatch {
    sessions: Sessions,
    watchers: Watchers,
    evaluators: Evaluators,
    assignments: Assignments,
    lease_ttl: Duration,
    gathered: BTreeMap<SessionId, Instructions>,
    failed: Vec<SessionId>,
}

impl Dispatch {
    pub(super) fn new(
        sessions: Sessions,
        watchers: Watchers,
        evaluators: Evaluators,
        lease_ttl: Duration,
    ) -> Self {
        Self {
            sessions,
            watchers,
            evaluators,
            assignments: Assignments::default(),
            lease_ttl,
            gathered: BTreeMap::new(),
            failed: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, session: SessionId, outbound: Outbound) {
        self.sessions.insert(session, outbound);
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.sessions.remove(session);
        self.gathered.remove(&session);
    }

    /// Closes a session.
    pub(super) fn disconnect(&mut self, session: SessionId) {
        self.forget(session);
    }

    pub(super) fn carry_out(&mut self, command: Command, core: &Core) {
        match command {
            Command::Grant { session, grant } => self.grant(session, &grant),
            Command::Stop { session, attempt, token, reason } => {
                let lease = Some(lease_id(attempt, token));
                let stop = Stop { lease, reason: stop_reason(reason).into() };
                self.add_instruction(session, |to| to.stops.push(stop));
            }
            Command::Recall { session, attempt, token } => {
                self.add_instruction(session, |to| to.recalls.push(lease_id(attempt, token)));
            }
            Command::Acknowledge { session, attempt, token } => {
                self.add_instruction(session, |to| to.acknowledged.push(lease_id(attempt, token)));
            }
            Command::Welcome { session } => {
                let lease_ttl_micros =
                    u64::try_from(self.lease_ttl.as_micros()).unwrap_or(u64::MAX);
                let welcome = Welcome { lease_ttl_micros };
                self.send(session, coordinator_message::Message::Welcome(welcome));
            }
            Command::Disconnect { session } => self.disconnect(session),
            Command::Drain { session } => {
                self.send(session, coordinator_message::Message::Drain(Drain {}));
            }
            Command::Evaluate { run, task } => self.evaluators.start(core, run, task),
            Command::Notify { run } => self.watchers.notify(core, run),
        }
    }

    /// Acknowledges a heartbeat. This does not depend on anything durable, but only the leader may do
    /// it.
    pub(super) fn receipt(&mut self, session: SessionId, number: u64) {
        let receipt = HeartbeatReceipt { number };
        self.send(session, coordinator_message::Message::Heartbeat(receipt));
    }

    fn grant(&mut self, session: SessionId, grant: &Grant) {
        let lease = Lease {
            id: Some(lease_id(grant.attempt, grant.token)),
            task_name: grant.dag.task_name(grant.attempt.task).to_owned(),
            assignment: self.assignments.encode(grant),
        };
        self.add_instruction(session, |to| to.leases.push(lease));
    }

    fn add_instruction(&mut self, session: SessionId, add: impl FnOnce(&mut Instructions)) {
        if !self.sessions.contains(session) {
            return;
        }
        let gathered = self.gathered.entry(session).or_default();
        add(gathered);
        if gathered.leases.len() >= LEASES_PER_MESSAGE {
            self.send_gathered(session);
        }
    }

    fn send_gathered(&mut self, session: SessionId) {
        if let Some(instructions) = self.gathered.remove(&session) {
            self.push(session, coordinator_message::Message::Instructions(instructions));
        }
    }

    /// Sends a message after everything collected for the same session.
    fn send(&mut self, session: SessionId, message: coordinator_message::Message) {
        self.send_gathered(session);
        self.push(session, message);
    }

    fn push(&mut self, session: SessionId, message: coordinator_message::Message) {
        let message = CoordinatorMessage { message: Some(message) };
        if !self.sessions.send(session, message) {
            self.failed.push(session);
        }
    }

    /// Sends everything collected, and returns the sessions that are broken or do not read.
    pub(super) fn flush(&mut self) -> Vec<SessionId> {
        while let Some((session, _)) = self.gathered.first_key_value() {
            self.send_gathered(*session);
        }
        std::mem::take(&mut self.failed)
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        // Requests that wait for news have to end with the driver, and hold the watchers themselves.
        self.watchers.close();
    }
}

fn lease_id(attempt: AttemptId, token: Token) -> LeaseId {
    wire::lease_id(attempt, token)
}

fn stop_reason(reason: StopReason) -> kahn_proto::worker::StopReason {
    match reason {
        StopReason::Cancelled => kahn_proto::worker::StopReason::Cancelled,
        StopReason::TimedOut => kahn_proto::worker::StopReason::TimedOut,
        StopReason::Superseded => kahn_proto::worker::StopReason::Superseded,
    }
}
