//! Running attempts: prepares them for their executors and stops them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::{Action, ActionKind, Cause, CauseKind, Failure, Token};
use kahn_proto::worker::LeaseId;
use kahn_worker_core::{Lease, StopReason};
use tokio::sync::mpsc;

use super::Input;
use super::launch::{self, Launch, Start};
use crate::shipping::Shipping;
use crate::wire::Task;
use kahn_executor::logs::LogDir;
use kahn_executor::secrets::{GivenSecrets, Secrets};
use kahn_executor::{self, Assignment, Executor, Report, Stopper};

/// Components shared by all attempts.
pub(crate) struct Parts {
    pub executors: BTreeMap<ActionKind, Arc<dyn Executor>>,
    pub secrets: Arc<Secrets>,
    pub logs: LogDir,
    pub shipping: Shipping,
    pub inbox: mpsc::Sender<Input>,
}

/// A running attempt.
struct Running {
    kind: ActionKind,
    stopper: Stopper,
}

pub(super) struct Attempts {
    parts: Parts,
    running: BTreeMap<Token, Running>,
    launches: Vec<Launch>,
}

impl Attempts {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, running: BTreeMap::new(), launches: Vec::new() }
    }

    /// Queues an attempt for the next [`Attempts::launch`]. Returns a report if the attempt ended
    /// immediately. `is_resumed` says that a previous process may have begun with it.
    pub(super) fn start(&mut self, lease: &Lease<Task>, is_resumed: bool) -> Option<Report> {
        if lease.payload.work.action == Action::Noop {
            return Some(Report { outcome: Ok(Default::default()), usage: Default::default() });
        }
        let kind = lease.payload.work.action.kind();
        let Some(executor) = self.parts.executors.get(&kind).map(Arc::clone) else {
            let message = format!("this worker has no executor for {kind}");
            let failure = Failure::new(Cause::of(CauseKind::Infeasible), &message);
            return Some(Report { outcome: Err(failure), usage: Default::default() });
        };
        let token = lease.token;
        let start = Arc::new(Start::new(token, self.parts.inbox.clone()));
        let begun = Arc::clone(&start);
        let (stopper, control) = kahn_executor::control(move || begun.begin());
        self.running.insert(token, Running { kind, stopper });
        let assignment = self.describe(lease, is_resumed);
        let secrets = Arc::clone(&self.parts.secrets);
        let shipping = (kind != ActionKind::Builtin).then(|| self.parts.shipping.clone());
        let launch = Launch { executor, secrets, assignment, control, start, shipping, token };
        self.launches.push(launch);
        None
    }

    /// Returns the attempts whose output is not stored yet.
    pub(super) fn unstored_logs(&self) -> Vec<LeaseId> {
        self.parts.shipping.unstored()
    }

    /// Launches all attempts queued since the last call.
    pub(super) fn launch(&mut self) {
        if !self.launches.is_empty() {
            launch::launch(std::mem::take(&mut self.launches), &self.parts.inbox);
        }
    }

    fn describe(&self, lease: &Lease<Task>, is_resumed: bool) -> Assignment {
        let name = &lease.payload.name;
        let logs = match is_resumed {
            true => self.parts.logs.resume_under(lease.attempt, lease.token),
            false => self.parts.logs.writer_under(lease.attempt, lease.token),
        };
        Assignment {
            attempt: lease.attempt,
            namespace: lease.payload.namespace.clone(),
            task_name: name.to_string(),
            work: Arc::clone(&lease.payload.work),
            env: environment(lease),
            secrets: GivenSecrets::none(),
            resources: Arc::clone(&lease.resources),
            timeouts: lease.payload.timeouts,
            logs: Arc::new(logs),
            is_resumed,
        }
    }

    pub(super) fn stop(&mut self, token: Token, reason: StopReason) {
        if let Some(running) = self.running.get(&token) {
            running.stopper.stop(match reason {
                StopReason::TimedOut => CauseKind::RunTimeout,
                StopReason::Leaving => CauseKind::Preempted,
                StopReason::CutOff => CauseKind::WorkerLost,
                StopReason::Cancelled | StopReason::Superseded => CauseKind::Cancelled,
            });
        }
    }

    /// Forgets an attempt that has ended, and returns the kind of its action.
    pub(super) fn forget(&mut self, token: Token) -> Option<ActionKind> {
        self.running.remove(&token).map(|running| running.kind)
    }

    /// Returns the number of running attempts.
    pub(super) fn n_running(&self) -> i64 {
        i64::try_from(self.running.len()).unwrap_or(i64::MAX)
    }
}

/// Returns the environment variables that identify the attempt to its process. Empty for actions
/// without a process: building them would cost as much as calling a function.
fn environment(lease: &Lease<Task>) -> Vec<(String, String)> {
    match lease.payload.work.action.kind() {
        ActionKind::Process
        | ActionKind::Python
        | ActionKind::Container
        | ActionKind::Kubernetes => {
            kahn_executor::attempt_environment(lease.attempt, &lease.payload.name, None)
        }
        ActionKind::Builtin | ActionKind::Function | ActionKind::Http => Vec::new(),
    }
}
