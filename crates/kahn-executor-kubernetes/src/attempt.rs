//! Runs one attempt, from the creation of its pod to its report.

mod removal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kahn_executor::failure::{self, worker_fault};
use kahn_executor::{Assignment, Control, Report};
use kahn_model::{Action, Cause, CauseKind, Failure, Outputs, Usage};
use kube::Api;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::logs::Output;
use super::outputs;
use super::plan::{self, Owner};
use super::requests::{NotCreated, Requests};
use super::settings::KubernetesSettings;
use super::state::{End, Pending, Stage, deletion_requested_at, stage};
use super::watch::{Pods, Registered, Seen};
use super::{names, secret};

/// What all attempts of a worker share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) settings: KubernetesSettings,
    pub(super) owner: Owner,
    pub(super) api: Api<Pod>,
    pub(super) secrets: Api<Secret>,
    pub(super) requests: Requests,
    pub(super) pods: Pods,
    /// The directory for what must survive a restart of the worker.
    pub(super) dir: PathBuf,
}

/// Why an attempt ended.
enum Ending {
    /// Its pod has ended.
    ByItself(End),
    /// It was stopped, and its pod is gone.
    Stopped { reason: CauseKind },
    /// It cannot go on; its pod is gone.
    Failed(Failure),
}

impl Host {
    /// Executes an attempt.
    pub(super) async fn carry_out(
        self: Arc<Self>,
        assignment: Assignment,
        mut control: Control,
    ) -> Report {
        let Action::Pod(asked) = assignment.work.action.clone() else {
            let failure = failure::cannot_start("this executor carries out pods only");
            return Report::not_run(failure);
        };
        let pod = match plan::pod(&assignment, &asked, &self.owner, &self.settings) {
            Ok(pod) => pod,
            Err(failure) => return Report::not_run(failure),
        };
        let name = names::pod_name(assignment.attempt, &assignment.task_name);
        // Before the pod exists, so that it is never taken for one without an attempt.
        let registered = self.pods.register(&name);
        let begun = match assignment.is_resumed {
            true => self.find(&name).await,
            false => self.requests.create(&pod, self.settings.pending_timeout, &mut control).await,
        };
        let given = match begun {
            Ok(pod) => self.give_secrets(pod, &assignment, &registered).await,
            Err(not_created) => Err(not_created),
        };
        match given {
            Ok(()) => {
                let attempt =
                    Attempt { host: &self, name: &name, assignment: &assignment, registered };
                attempt.supervise(control).await
            }
            Err(NotCreated { failure, may_exist }) => {
                if may_exist {
                    self.requests.remove(&name, Duration::ZERO).await;
                }
                Report::not_run(failure)
            }
        }
    }

    /// Finds the pod that an earlier start of this worker may have created. Never creates it, since
    /// it may have run already.
    async fn find(&self, name: &str) -> Result<Pod, NotCreated> {
        self.requests.get(name).await.ok_or_else(|| NotCreated {
            failure: worker_fault("the worker was restarted, and the pod is gone"),
            may_exist: false,
        })
    }

    /// Creates the Secret of a pod, if the task has secrets and an earlier start of this worker has
    /// not created it.
    async fn give_secrets(
        &self,
        pod: Pod,
        assignment: &Assignment,
        registered: &Registered,
    ) -> Result<(), NotCreated> {
        let secret = secret::of(assignment, &pod);
        registered.tell(pod);
        let given = match secret {
            Ok(Some(secret)) => self.requests.create_secret(&self.secrets, &secret).await,
            Ok(None) => Ok(()),
            Err(failure) => Err(failure),
        };
        given.map_err(|failure| NotCreated { failure, may_exist: true })
    }
}

/// An attempt whose pod exists.
struct Attempt<'a> {
    host: &'a Host,
    name: &'a str,
    assignment: &'a Assignment,
    registered: Registered,
}

impl Attempt<'_> {
    async fn supervise(mut self, mut control: Control) -> Report {
        let (started, ended) = (CancellationToken::new(), CancellationToken::new());
        let (host, name, log) = (self.host, self.name, Arc::clone(&self.assignment.logs));
        let output = Output {
            api: &host.api,
            name,
            log: &log,
            place: host.dir.join(format!("{name}.place")),
        };
        let is_resumed = self.assignment.is_resumed;
        let copying = async {
            tokio::select! {
                biased;
                () = started.cancelled() => output.copy(is_resumed, &ended).await,
                () = ended.cancelled() => {}
            }
        };
        let running = async {
            let ending = self.run(&mut control, &started).await;
            ended.cancel();
            ending
        };
        let (ending, ()) = tokio::join!(running, copying);
        let run_timeout = self.assignment.timeouts.run;
        let (outcome, elapsed) = match ending {
            Ending::ByItself(end) => (outcome(end.outcome), end.elapsed),
            Ending::Stopped { reason } => {
                (Err(failure::stopped(reason, false, run_timeout)), Duration::ZERO)
            }
            Ending::Failed(failure) => (Err(failure), Duration::ZERO),
        };
        self.vanish().await;
        Report { outcome, usage: Usage { elapsed, ..Usage::default() } }
    }

    /// Waits until the pod has ended, or ends it.
    async fn run(&mut self, control: &mut Control, started: &CancellationToken) -> Ending {
        let pending_until = self.pending_until();
        let mut run_until = None;
        loop {
            let (pod, stage) = match self.look().await {
                Ok(found) => found,
                Err(ending) => return ending,
            };
            let mut due = pending_until;
            match &stage {
                Stage::Ended(end) => {
                    control.started();
                    started.cancel();
                    return self.ended(&pod, end.clone());
                }
                Stage::Running { since } => {
                    control.started();
                    started.cancel();
                    run_until = run_until.or_else(|| self.run_until(*since));
                    due = run_until;
                }
                Stage::Pending(Pending::Hopeless(failure)) => {
                    return self.give_up(failure.clone()).await;
                }
                Stage::Pending(_) => {}
            }
            let overdue = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let reason = tokio::select! {
                biased;
                () = self.registered.changed() => continue,
                reason = control.stop_requested() => reason,
                () = overdue => match stage {
                    Stage::Pending(pending) => return self.give_up(overdue_failure(pending)).await,
                    _ => CauseKind::RunTimeout,
                },
            };
            return self.stop(reason, started).await;
        }
    }

    /// Returns the pod and its stage, waiting until something is known.
    async fn look(&mut self) -> Result<(Arc<Pod>, Stage), Ending> {
        loop {
            match self.registered.seen() {
                Seen::Present(pod) => {
                    let stage = stage(&pod);
                    return Ok((pod, stage));
                }
                Seen::Removed(last) => {
                    return Err(match stage(&last) {
                        Stage::Ended(end) => self.ended(&last, end),
                        _ => Ending::Failed(worker_fault("the pod was removed by somebody else")),
                    });
                }
                Seen::Missing => match self.host.requests.get(self.name).await {
                    Some(pod) => self.registered.tell(pod),
                    None => {
                        let message =
                            "the pod was removed by somebody else while it was not watched";
                        return Err(Ending::Failed(worker_fault(message)));
                    }
                },
                Seen::Nothing => self.registered.changed().await,
            }
        }
    }

    /// Returns the end of a pod that this worker has not stopped. If somebody else deleted it before
    /// its container ended, nothing is known of what the task would have done.
    fn ended(&self, pod: &Pod, end: End) -> Ending {
        let deleted_at = deletion_requested_at(pod);
        let was_first = match (deleted_at, end.at) {
            (Some(deleted), Some(ended)) => deleted <= ended,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let is_disrupted = matches!(&end.outcome, Err(failure) if is_infrastructure(failure));
        match was_first && !is_disrupted {
            true => Ending::Failed(worker_fault("the pod was deleted by somebody else")),
            false => Ending::ByItself(end),
        }
    }

    /// Returns when a pod that has not started is given up. The start timeout of a task is measured
    /// by the coordinator.
    fn pending_until(&self) -> Option<Instant> {
        let has_own = self.assignment.timeouts.start.is_some();
        (!has_own).then(|| Instant::now() + self.host.settings.pending_timeout)
    }

    fn run_until(&self, since: Option<Timestamp>) -> Option<Instant> {
        let run = self.assignment.timeouts.run?;
        // An attempt of an earlier start of the worker has run for a while.
        let resumed = since.filter(|_| self.assignment.is_resumed);
        let elapsed = resumed.map(|since| Timestamp::now().duration_since(since));
        let elapsed = elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok());
        Some(Instant::now() + run.saturating_sub(elapsed.unwrap_or_default()))
    }

    async fn give_up(&mut self, failure: Failure) -> Ending {
        match self.remove().await {
            Some(end) if end.outcome.is_ok() => Ending::ByItself(end),
            _ => Ending::Failed(failure),
        }
    }

    async fn stop(&mut self, reason: CauseKind, started: &CancellationToken) -> Ending {
        let end = self.remove().await;
        if end.is_some() {
            started.cancel();
        }
        Ending::Stopped { reason }
    }
}

fn is_infrastructure(failure: &Failure) -> bool {
    failure.cause.kind == CauseKind::Preempted
}

fn overdue_failure(pending: Pending) -> Failure {
    match pending {
        Pending::Stuck(failure) | Pending::Hopeless(failure) => failure,
        Pending::Starting => worker_fault("the pod did not start in time"),
    }
}

fn outcome(outcome: Result<String, Failure>) -> Result<Outputs, Failure> {
    let text = outcome?;
    outputs::parse(&text).map_err(|message| Failure::new(Cause::exit_code(0), &message))
}
