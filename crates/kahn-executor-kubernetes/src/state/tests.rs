//! What statuses of pods mean.

use kahn_model::CauseKind;
use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap()
}

fn with_state(phase: &str, state: Value) -> Value {
    json!({
        "phase": phase,
        "containerStatuses": [{
            "name": "task", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }],
    })
}

fn terminated(code: i32, reason: &str, message: &str) -> Value {
    json!({ "terminated": {
        "exitCode": code, "reason": reason, "message": message,
        "startedAt": "2026-01-02T03:04:05Z", "finishedAt": "2026-01-02T03:04:08Z",
    } })
}

fn end(status: Value) -> End {
    match stage(&pod(status)) {
        Stage::Ended(end) => end,
        other => panic!("{other:?}"),
    }
}

fn failure(status: Value) -> (CauseKind, String) {
    let failure = end(status).outcome.unwrap_err();
    (failure.cause.kind, failure.message.to_string())
}

#[test]
fn a_container_that_succeeds_gives_its_outputs_and_how_long_it_ran() {
    let end = end(with_state("Succeeded", terminated(0, "Completed", "a=1\n")));
    assert_eq!(end.outcome, Ok("a=1\n".to_owned()));
    assert_eq!(end.elapsed, Duration::from_secs(3));
}

#[test]
fn each_end_of_a_container_has_its_cause() {
    let of = |code, reason| failure(with_state("Failed", terminated(code, reason, "why")));
    assert_eq!(of(3, "Error"), (CauseKind::ExitCode, String::new()));
    assert_eq!(of(137, "OOMKilled").0, CauseKind::OutOfMemory);
    assert_eq!(of(128, "StartError"), (CauseKind::Image, "why".into()));
    assert_eq!(of(137, "ContainerStatusUnknown").0, CauseKind::Preempted);
}

#[test]
fn what_kubernetes_does_to_a_pod_is_no_fault_of_its_task() {
    let mut evicted = with_state("Failed", terminated(143, "Error", ""));
    evicted["reason"] = json!("Evicted");
    evicted["message"] = json!("the node was low on memory");
    assert_eq!(
        failure(evicted),
        (CauseKind::Preempted, "Evicted: the node was low on memory".into())
    );

    let mut preempted = with_state("Running", terminated(143, "Error", ""));
    preempted["conditions"] = json!([
        { "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "m" },
    ]);
    assert_eq!(failure(preempted), (CauseKind::Preempted, "PreemptionByScheduler: m".into()));

    let refused =
        json!({ "phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "m" });
    assert_eq!(failure(refused), (CauseKind::Preempted, "UnexpectedAdmissionError: m".into()));
    let silent = json!({ "phase": "Failed" });
    assert_eq!(failure(silent).0, CauseKind::Preempted);
}

#[test]
fn a_pod_beyond_its_deadline_exceeded_the_timeout_of_its_task() {
    let mut late = with_state("Failed", terminated(137, "Error", ""));
    late["reason"] = json!("DeadlineExceeded");
    assert_eq!(failure(late).0, CauseKind::RunTimeout);
}

#[test]
fn a_pod_that_does_not_start_says_why_and_whether_it_still_may() {
    let waiting = |reason: &str| {
        let state = json!({ "waiting": { "reason": reason, "message": "m" } });
        match stage(&pod(with_state("Pending", state))) {
            Stage::Pending(pending) => pending,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(waiting("ContainerCreating"), Pending::Starting);
    let failure = |reason: &str| kahn_executor::failure::cannot_start(&format!("{reason}: m"));
    assert_eq!(waiting("ImagePullBackOff"), Pending::Stuck(failure("ImagePullBackOff")));
    assert_eq!(waiting("InvalidImageName"), Pending::Hopeless(failure("InvalidImageName")));

    let unscheduled = json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes" },
    ] });
    let Stage::Pending(Pending::Stuck(failure)) = stage(&pod(unscheduled)) else { panic!() };
    assert_eq!((failure.cause.kind, &*failure.message), (CauseKind::Infeasible, "0/2 nodes"));
    assert_eq!(stage(&Pod::default()), Stage::Pending(Pending::Starting));
}

#[test]
fn a_running_container_says_since_when() {
    let state = json!({ "running": { "startedAt": "2026-01-02T03:04:05Z" } });
    let since = "2026-01-02T03:04:05Z".parse().unwrap();
    assert_eq!(stage(&pod(with_state("Running", state))), Stage::Running { since: Some(since) });
}

#[test]
fn a_deletion_was_requested_one_grace_before_its_time() {
    let metadata =
        json!({ "deletionTimestamp": "2026-01-02T03:04:35Z", "deletionGracePeriodSeconds": 30 });
    let pod: Pod = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
    assert_eq!(deletion_requested_at(&pod), Some("2026-01-02T03:04:05Z".parse().unwrap()));
    assert_eq!(deletion_requested_at(&Pod::default()), None);
}
