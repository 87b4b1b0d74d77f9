//! What the status of a pod says about its attempt.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodCondition};
use kahn_executor::failure::{cannot_start, worker_fault};
use kahn_model::{Cause, CauseKind, Failure};

use super::plan::CONTAINER;

/// How far a pod has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// It has not started yet.
    Pending(Pending),
    /// Its container runs.
    Running {
        /// When the container started, with a resolution of seconds.
        since: Option<Timestamp>,
    },
    /// It has ended, and nothing of it runs any more.
    Ended(End),
}

/// Why a pod has not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// Nothing is wrong.
    Starting,
    /// It may start later. The failure is the one to report if it does not.
    Stuck(Failure),
    /// It will never start.
    Hopeless(Failure),
}

/// How a pod has ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    /// The content of the file of outputs if the container has succeeded, or why it has failed.
    pub(super) outcome: Result<String, Failure>,
    /// How long the container ran.
    pub(super) elapsed: Duration,
    /// When it ended, with a resolution of seconds.
    pub(super) at: Option<Timestamp>,
}

/// Reasons for which an image cannot be used, now or ever.
const NEVER: [&str; 2] = ["InvalidImageName", "ErrImageNeverPull"];
/// Reasons for which a container does not start now.
const NOT_NOW: [&str; 8] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// Returns how far a pod has come.
pub(super) fn stage(pod: &Pod) -> Stage {
    let status = pod.status.as_ref();
    let container = container(pod);
    let terminated = container
        .and_then(|status| status.state.as_ref())
        .and_then(|state| state.terminated.as_ref());
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if let Some(terminated) = terminated {
        return Stage::Ended(end(pod, terminated));
    }
    if matches!(phase, "Failed" | "Succeeded") {
        // Without the state of its container, as after an eviction before it started.
        let failure = failure_of_pod(pod).unwrap_or_else(|| {
            worker_fault("the pod ended without saying how its container ended")
        });
        return Stage::Ended(End { outcome: Err(failure), elapsed: Duration::ZERO, at: None });
    }
    let running =
        container.and_then(|status| status.state.as_ref()).and_then(|state| state.running.as_ref());
    match running {
        Some(running) => {
            Stage::Running { since: running.started_at.as_ref().map(|started| started.0) }
        }
        None => Stage::Pending(pending(pod, container)),
    }
}

/// Returns when somebody asked to delete the pod.
pub(super) fn deletion_requested_at(pod: &Pod) -> Option<Timestamp> {
    // The time of deletion is the end of the grace.
    let at = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    Some(at.checked_sub(jiff::SignedDuration::from_secs(grace)).unwrap_or(at))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn end(pod: &Pod, terminated: &ContainerStateTerminated) -> End {
    let (started, finished) = (&terminated.started_at, &terminated.finished_at);
    let elapsed = match (started, finished) {
        (Some(started), Some(finished)) => finished.0.duration_since(started.0),
        _ => jiff::SignedDuration::ZERO,
    };
    End {
        outcome: outcome(pod, terminated),
        elapsed: Duration::try_from(elapsed).unwrap_or_default(),
        at: finished.as_ref().map(|finished| finished.0),
    }
}

fn outcome(pod: &Pod, terminated: &ContainerStateTerminated) -> Result<String, Failure> {
    let message = terminated.message.as_deref().unwrap_or_default();
    let reason = terminated.reason.as_deref().unwrap_or_default();
    if let Some(failure) = failure_of_pod(pod) {
        return Err(failure);
    }
    Err(match reason {
        "OOMKilled" => {
            Failure::new(Cause::of(CauseKind::OutOfMemory), "the container exceeded its memory")
        }
        // The runtime could not start the program. The message is that of the runtime.
        "StartError" | "ContainerCannotRun" => cannot_start(message),
        "ContainerStatusUnknown" => worker_fault("the node has lost the container"),
        _ if terminated.exit_code == 0 => return Ok(message.to_owned()),
        _ => Failure::new(Cause::exit_code(terminated.exit_code), ""),
    })
}

/// Returns the failure if the pod as a whole was ended by Kubernetes.
fn failure_of_pod(pod: &Pod) -> Option<Failure> {
    let status = pod.status.as_ref()?;
    let message = status.message.as_deref().unwrap_or_default();
    if status.phase.as_deref() == Some("Failed") {
        match status.reason.as_deref() {
            Some("DeadlineExceeded") => {
                return Some(Failure::new(Cause::of(CauseKind::RunTimeout), message));
            }
            Some(
                reason @ ("Evicted" | "Preempting" | "Shutdown" | "NodeShutdown" | "Terminated"),
            ) => {
                return Some(worker_fault(&format!("{reason}: {message}")));
            }
            Some(
                reason @ ("NodeLost" | "NodeAffinity" | "OutOfcpu" | "OutOfmemory" | "OutOfpods"),
            ) => {
                return Some(worker_fault(&format!("{reason}: {message}")));
            }
            // A node that cannot take the pod names the reason, such as UnexpectedAdmissionError.
            Some(reason) if container(pod).is_none() => {
                return Some(worker_fault(&format!("{reason}: {message}")));
            }
            _ => {}
        }
    }
    let disrupted = condition(pod, "DisruptionTarget").filter(|found| found.status == "True")?;
    let reason = disrupted.reason.as_deref().unwrap_or("DisruptionTarget");
    let message = disrupted.message.as_deref().unwrap_or_default();
    Some(worker_fault(&format!("{reason}: {message}")))
}

fn pending(pod: &Pod, container: Option<&ContainerStatus>) -> Pending {
    let waiting =
        container.and_then(|status| status.state.as_ref()).and_then(|state| state.waiting.as_ref());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or_default();
        let failure = || cannot_start(&format!("{reason}: {message}"));
        if NEVER.contains(&reason) {
            return Pending::Hopeless(failure());
        }
        if NOT_NOW.contains(&reason) {
            return Pending::Stuck(failure());
        }
    }
    let unscheduled = condition(pod, "PodScheduled").filter(|found| found.status == "False");
    match unscheduled {
        Some(found) => {
            let message = found.message.as_deref().unwrap_or("no node takes the pod");
            Pending::Stuck(Failure::new(Cause::of(CauseKind::Infeasible), message))
        }
        None => Pending::Starting,
    }
}

#[cfg(test)]
mod tests;
