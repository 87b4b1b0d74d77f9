//! Requests to the API server. Those whose result must be known are repeated until there is one.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kahn_executor::Control;
use kahn_executor::failure::{cannot_start, forbidden, worker_fault};
use kahn_model::{Cause, CauseKind, Failure};
use kahn_runtime::backoff::Backoff;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Error};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// Upper bounds of the delays between repeated requests.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The timeout of one request.
const REQUEST: Duration = Duration::from_secs(30);

/// Requests about the pods of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    api: Api<Pod>,
}

/// Why a pod was not created.
#[derive(Debug)]
pub(super) struct NotCreated {
    pub(super) failure: Failure,
    /// Whether it may exist nevertheless, since a request was not answered.
    pub(super) may_exist: bool,
}

/// Returns the delays between repeated requests.
fn backoff() -> Backoff {
    Backoff::new(PAUSE_MIN, PAUSE_MAX)
}

impl Requests {
    pub(super) fn new(api: Api<Pod>) -> Self {
        Self { api }
    }

    /// Returns the pod with this name, or `None` if there is none. Waits until the API server
    /// answers.
    pub(super) async fn get(&self, name: &str) -> Option<Pod> {
        let mut backoff = backoff();
        loop {
            match timed(self.api.get_opt(name)).await {
                Ok(found) => return found,
                Err(error) => debug!(name, %error, "cannot look for a pod now"),
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// Creates a pod. If there is one of this name already, it is the pod of this attempt, which an
    /// earlier request has created. Repeats the request for up to `timeout` while the namespace has
    /// no quota left or the API server does not answer, and until the attempt is to stop.
    pub(super) async fn create(
        &self,
        pod: &Pod,
        timeout: Duration,
        control: &mut Control,
    ) -> Result<Pod, NotCreated> {
        let until = Instant::now() + timeout;
        let mut backoff = backoff();
        let mut may_exist = false;
        loop {
            if let Some(reason) = control.stop_reason() {
                return Err(NotCreated { failure: Failure::of(reason), may_exist });
            }
            // Never dropped: a request that is under way could create the pod after its deletion.
            let error = match timed(self.api.create(&PostParams::default(), pod)).await {
                Ok(created) => return Ok(created),
                Err(Error::Api(status)) if status.is_already_exists() => {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    match self.get(name).await {
                        Some(existing) => {
                            let other = |failure| NotCreated { failure, may_exist: false };
                            return own(existing, pod).map_err(other);
                        }
                        None => continue,
                    }
                }
                Err(error) => error,
            };
            may_exist |= !is_refusal(&error);
            let (failure, is_final) = explain("pod", &error);
            if is_final || Instant::now() >= until {
                return Err(NotCreated { failure, may_exist });
            }
            debug!(%error, "cannot create a pod now");
            tokio::select! {
                () = sleep(backoff.next_delay()) => {}
                _ = control.stop_requested() => {}
            }
        }
    }

    /// Creates the Secret of a pod.
    pub(super) async fn create_secret(
        &self,
        api: &Api<Secret>,
        secret: &Secret,
    ) -> Result<(), Failure> {
        let mut backoff = backoff();
        for _ in 0..10 {
            let error = match timed(api.create(&PostParams::default(), secret)).await {
                Ok(_) => return Ok(()),
                Err(Error::Api(status)) if status.is_already_exists() => return Ok(()),
                Err(error) => error,
            };
            let (failure, is_final) = explain("Secret", &error);
            if is_final {
                return Err(failure);
            }
            sleep(backoff.next_delay()).await;
        }
        Err(worker_fault("the Secret of the pod could not be created"))
    }

    /// Requests that a pod is deleted, until the API server has accepted it or says that there is no
    /// such pod.
    pub(super) async fn remove(&self, name: &str, grace: Duration) {
        let seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        let params =
            DeleteParams { grace_period_seconds: Some(seconds), ..DeleteParams::default() };
        let mut backoff = backoff();
        let mut is_told = false;
        loop {
            match timed(self.api.delete(name, &params)).await {
                Ok(_) => return,
                Err(Error::Api(status)) if status.is_not_found() => return,
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(name, %error, "cannot delete a pod now");
                    }
                }
            }
            sleep(backoff.next_delay()).await;
        }
    }
}

async fn timed<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(Error::Service(Box::new(elapsed))),
    }
}

/// Returns whether the API server has refused a request. After any other error, such as a timeout of
/// its own, the request may have been carried out.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Api(status) if (400..500).contains(&status.code))
}

/// Returns a pod that exists already, if it is the one of this attempt and worker.
fn own(existing: Pod, wanted: &Pod) -> Result<Pod, Failure> {
    let (found, expected) = (existing.metadata.labels.as_ref(), wanted.metadata.labels.as_ref());
    // The cluster may have added others.
    let has = |(name, value)| found.is_some_and(|found| found.get(name) == Some(value));
    if expected.into_iter().flatten().all(has) {
        return Ok(existing);
    }
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    Err(worker_fault(&format!("there is another pod with the name {name}")))
}

/// Returns the failure to report, and whether another request could not succeed.
fn explain(what: &str, error: &Error) -> (Failure, bool) {
    let Error::Api(status) = error else {
        return (
            worker_fault(&format!("the API server does not create the {what}: {error}")),
            false,
        );
    };
    let message = format!("the API server refuses the {what}: {}", status.message);
    match status.code {
        403 if status.message.contains("exceeded quota") => {
            (Failure::new(Cause::of(CauseKind::Infeasible), &message), false)
        }
        403 => (forbidden(&message), true),
        408 | 429 => (worker_fault(&message), false),
        400..=499 => (cannot_start(&message), true),
        _ => (worker_fault(&message), false),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn error(code: u16, message: &str) -> Error {
        let reason = "reason";
        Error::Api(Status::failure(message, reason).with_code(code).boxed())
    }

    #[test]
    fn only_an_answer_that_refuses_a_request_means_that_it_was_not_carried_out() {
        assert!(is_refusal(&error(403, "")) && is_refusal(&error(422, "")));
        assert!(!is_refusal(&error(500, "etcdserver: request timed out")));
        assert!(!is_refusal(&error(504, "")));
        assert!(!is_refusal(&Error::Service("connection reset".into())));
    }

    #[test]
    fn a_quota_is_waited_for_and_what_is_forbidden_is_not() {
        let explained = |code, message| {
            let (failure, is_final) = explain("pod", &error(code, message));
            (failure.cause.kind, is_final)
        };
        assert_eq!(explained(403, "exceeded quota: pods"), (CauseKind::Infeasible, false));
        assert_eq!(explained(403, "not allowed"), (CauseKind::Policy, true));
        assert_eq!(explained(422, "invalid"), (CauseKind::Image, true));
        assert_eq!(explained(429, "slow down"), (CauseKind::Preempted, false));
        assert_eq!(explained(503, ""), (CauseKind::Preempted, false));
    }
}
