//! Attempts under way: handed to their executors, stopped, and their output shipped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Action, ActionKind, CauseKind, Failure, Token};
use kahn_worker_core::{Lease, StopReason};
use tokio::sync::mpsc;

use super::Input;
use crate::executor::{self, Assignment, Executor, Report, Stopper};
use crate::logs::LogDir;
use crate::secrets::{GivenSecrets, Secrets};
use crate::shipping::Shipping;
use crate::wire::Task;

/// How long the end of an attempt waits for the last of its output to be received, so that whoever
/// sees the end can see all of it.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// What attempts need.
pub(crate) struct Parts {
    pub executors: BTreeMap<ActionKind, Arc<dyn Executor>>,
    pub secrets: Arc<Secrets>,
    pub logs: LogDir,
    pub shipping: Shipping,
    pub inbox: mpsc::Sender<Input>,
}

pub(super) struct Attempts {
    parts: Parts,
    stoppers: BTreeMap<Token, Stopper>,
}

impl Attempts {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, stoppers: BTreeMap::new() }
    }

    /// Starts an attempt. What takes no time at all has ended when this returns.
    pub(super) fn start(&mut self, lease: Lease<Task>) -> Option<Report> {
        if lease.payload.work.action == Action::Noop {
            return Some(Report { outcome: Ok(Default::default()), usage: Default::default() });
        }
        let kind = lease.payload.work.action.kind();
        let Some(executor) = self.parts.executors.get(&kind).map(Arc::clone) else {
            let failure = Failure::of(CauseKind::Infeasible);
            return Some(Report { outcome: Err(failure), usage: Default::default() });
        };
        let token = lease.token;
        let inbox = self.parts.inbox.clone();
        let started = inbox.clone();
        let (stopper, control) = executor::control(move || {
            // Not lost when the inbox is full: the end tells the start, too.
            drop(started.try_send(Input::Started(token)));
        });
        self.stoppers.insert(token, stopper);
        let assignment = self.describe(&lease);
        let shipped = self.ship(&lease, &assignment);
        let secrets = Arc::clone(&self.parts.secrets);
        tokio::spawn(async move {
            let report = secrets.carry_out(executor, assignment, control).await;
            if let Some(shipped) = shipped {
                // Output that takes longer goes on by itself.
                drop(tokio::time::timeout(LAST_OUTPUT_WAIT, shipped).await);
            }
            // Without a driver there is nobody to tell.
            drop(inbox.send(Input::Finished(token, report.outcome, report.usage)).await);
        });
        None
    }

    fn describe(&self, lease: &Lease<Task>) -> Assignment {
        let name = &lease.payload.name;
        Assignment {
            attempt: lease.attempt,
            task_name: name.to_string(),
            work: (*lease.payload.work).clone(),
            env: executor::attempt_environment(lease.attempt, name, None),
            secrets: GivenSecrets::none(),
            resources: Arc::clone(&lease.resources),
            timeouts: lease.payload.timeouts,
            logs: Arc::new(self.parts.logs.writer(lease.attempt)),
        }
    }

    fn ship(
        &self,
        lease: &Lease<Task>,
        assignment: &Assignment,
    ) -> Option<tokio::task::JoinHandle<()>> {
        if lease.payload.work.action.kind() == ActionKind::Builtin {
            return None;
        }
        let reader = assignment.logs.reader(0);
        let shipping = self.parts.shipping.clone();
        Some(tokio::spawn(shipping.ship(lease.attempt, lease.token, reader)))
    }

    pub(super) fn stop(&mut self, token: Token, reason: StopReason) {
        if let Some(stopper) = self.stoppers.get(&token) {
            stopper.stop(match reason {
                StopReason::TimedOut => CauseKind::RunTimeout,
                StopReason::Leaving => CauseKind::Preempted,
                StopReason::CutOff => CauseKind::WorkerLost,
                StopReason::Cancelled | StopReason::Superseded => CauseKind::Cancelled,
            });
        }
    }

    pub(super) fn forget(&mut self, token: Token) {
        self.stoppers.remove(&token);
    }
}
