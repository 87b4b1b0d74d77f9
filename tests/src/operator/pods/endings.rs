//! The ways in which pods end.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

use super::files::task;
use super::{history, running_pod};
use crate::kubernetes::commands::poll;
use crate::operator::release::Release;

/// Each task of this file fails in its own way.
pub(super) fn all_causes(release: &Release<'_>) -> anyhow::Result<String> {
    let image = |name: &str, pull: &str| {
        format!(
            "  {name}:\n    container: {{ image: \"kahn.test/none:1\", pull: {pull}, via: kubernetes }}\n"
        )
    };
    let mut file = "name: causes\npolicy: { on_failure: continue }\ntasks:\n".to_owned();
    file += &task("exit", "echo last words; exit 3", "");
    file += &task("memory", "x=0123456789abcdef; while true; do x=$x$x; done", "");
    file += &task("late", "sleep 60", "    timeouts: { run: 2s, grace: 1s }\n");
    file += &image("absent", "never");
    file += &image("unpulled", "missing");
    file += "  program:\n    container: { image: \"kahn.test/shell:1\", pull: never, via: kubernetes, command: [none] }\n";
    file += "  nowhere:\n    container: { image: \"kahn.test/shell:1\", pull: never, via: kubernetes, \
             kubernetes: { node_selector: { missing: \"1\" } } }\n";
    file += "  forbidden:\n    container: { image: \"kahn.test/shell:1\", pull: never, via: kubernetes, \
             kubernetes: { service_account: default } }\n";
    let run = release.submit(&file)?;
    let history = history(release, &run)?;
    let causes: BTreeMap<&str, &str> =
        history.of("task_failed").map(|event| (&*event.task, &*event.cause)).collect();
    let expected = [
        ("absent", "image"),
        ("exit", "exit_code"),
        ("forbidden", "policy"),
        ("late", "run_timeout"),
        ("memory", "out_of_memory"),
        ("nowhere", "infeasible"),
        ("program", "image"),
        ("unpulled", "image"),
    ];
    ensure!(causes.into_iter().eq(expected), "the causes are {:?}", history.0);
    let logs = release.kahn(&["logs", &run, "exit"])?.stdout;
    ensure!(logs == "last words\n", "the log is {logs}");
    Ok("exit code, memory, timeout, image absent or not pulled, no such program, no node, policy: each \
        with its cause"
        .to_owned())
}

/// Removes running pods from outside. Their tasks are tried again, without a retry of their own.
pub(super) fn disruptions(release: &Release<'_>) -> anyhow::Result<String> {
    for evicts in [false, true] {
        // The first attempt is removed, the second finds the file of nobody and ends.
        let once = "    timeouts: { grace: 1s }\n";
        let file = format!(
            "name: disrupted\ntasks:\n{}",
            task("victim", "test $KAHN_ATTEMPT = 1 && sleep 600; exit 0", once)
        );
        let run = release.submit(&file)?;
        let pod = running_pod(release, &run)?;
        if evicts {
            release.evict(&pod)?;
        } else {
            release.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
        }
        release.wait_for_success(&run)?;
        let history = history(release, &run)?;
        let retried: Vec<&str> =
            history.of("task_retried").map(|event| event.cause.as_str()).collect();
        ensure!(retried == ["preempted"], "{run}: {:?}", history.0);
    }
    Ok("both tried again, without a retry of their own".to_owned())
}

/// Cancels a run whose pod ignores SIGTERM.
pub(super) fn cancellation(release: &Release<'_>) -> anyhow::Result<String> {
    let more = "    timeouts: { grace: 2s }\n";
    let script = "trap '' TERM; while true; do sleep 1; done";
    let run =
        release.submit(&format!("name: cancelled\ntasks:\n{}", task("stubborn", script, more)))?;
    let pod = running_pod(release, &run)?;
    release.kahn(&["cancel", &run])?;
    poll("the cancelled run", || {
        release.get(&run).is_ok_and(|found| found["state"] == "cancelled")
    })?;
    let query = [
        "get",
        "pod",
        &pod,
        "--ignore-not-found",
        "--output",
        "jsonpath={.status.containerStatuses[0].state.running}",
    ];
    let running = release.kubectl(&query)?;
    ensure!(running.is_empty(), "the pod still runs: {running}");
    Ok("the pod was dead before the run was cancelled".to_owned())
}

/// Freezes the kubelet of a node, so that it does not confirm the end of a cancelled pod.
pub(super) fn lost_node(release: &Release<'_>) -> anyhow::Result<String> {
    let node = "kahn-node-2";
    let file = format!(
        "name: lost\ntasks:\n  task:\n    timeouts: {{ grace: 1s }}\n    container: {{ image: \
         \"kahn.test/shell:1\", pull: never, via: kubernetes, command: [sleep, '600'], kubernetes: {{ \
         node_selector: {{ kubernetes.io/hostname: {node} }} }} }}\n"
    );
    let run = release.submit(&file)?;
    let pod = running_pod(release, &run)?;
    let freezing = release.cluster.freeze_node(node)?;
    release.kahn(&["cancel", &run])?;
    let cancelled = poll("the cancelled run", || {
        release.get(&run).is_ok_and(|found| found["state"] == "cancelled")
    });
    drop(freezing);
    cancelled?;
    poll("the node", || {
        let ready = ["wait", "node", node, "--for=condition=Ready", "--timeout=1s"];
        release.kubectl(&ready).is_ok()
    })?;
    let left = release.kubectl(&["get", "pod", &pod, "--ignore-not-found"])?;
    ensure!(left.is_empty(), "the pod is left: {left}");
    let worker = release.pods_of_pool("pods")?.pop().context("no worker")?;
    let said = release.kubectl(&["logs", &worker])?;
    ensure!(said.contains("its node may be lost"), "the worker does not say it: {said}");
    Ok("given up after its grace and a minute, as force_delete allows; the log names the node"
        .to_owned())
}
