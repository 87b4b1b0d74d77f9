//! A series of takeovers with many live tasks: the leader is killed or asked to stop, again and
//! again, while a warm standby follows it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kahn_client::{Client, Submission, TaskFilter};
use kahn_model::TaskState;
use tokio::time::{Instant, sleep};

use super::faults::Kind;
use super::journal::{Journal, Line, script};
use super::load::{self, Outcomes, Runs};
use super::{END_MAX, RECOVERY_MAX, Table, connect};
use crate::coordinators::{Coordinators, Part};

/// The number of tasks of a run.
const TASKS_PER_RUN: usize = 10_000;
/// How long each task takes, in seconds. Most are still live at the end.
const TASK_SECONDS: f64 = 1.0;

/// Runs a cluster of two coordinators, two workers and Redis with about `n_live` live tasks, and
/// replaces the leader `n_takeovers` times, by SIGKILL and SIGTERM in turn.
///
/// # Errors
///
/// Returns an error if the cluster does not recover, or a promise is broken.
pub async fn replace_leaders(n_takeovers: usize, n_live: usize) -> anyhow::Result<Table> {
    let mut cluster = Coordinators::start(2, 2)?;
    let result = replace_all(&mut cluster, n_takeovers, n_live).await;
    result.with_context(|| cluster.printed())
}

async fn replace_all(
    cluster: &mut Coordinators,
    n_takeovers: usize,
    n_live: usize,
) -> anyhow::Result<Table> {
    let client = connect(cluster).await?;
    let journal = Journal::create(cluster.write("journal", "")?);
    let document = document(journal.path(), n_live.min(TASKS_PER_RUN));
    let mut runs = Runs::default();
    for _ in 0..n_live.div_ceil(TASKS_PER_RUN) {
        runs.acknowledged.push(client.submit(&Submission::new(&document)).await?.run);
    }
    let mut table = Table::default();
    for n in 0..n_takeovers {
        let (leader, _) = cluster.wait_for_leader(None)?;
        cluster.wait_for_role(1 - leader, "standby")?;
        let began_at = Instant::now();
        let fault = if n % 2 == 0 { Kind::LeaderKilled } else { Kind::LeaderStopped };
        match n % 2 {
            0 => cluster.kill9(Part::Coordinator(leader))?,
            _ => cluster.signal(Part::Coordinator(leader), "TERM")?,
        }
        let probe = load::probe(&client, &journal, RECOVERY_MAX).await;
        runs.acknowledged.push(probe.with_context(|| format!("takeover {n}, {}", fault.name()))?);
        table.recovered(fault, began_at.elapsed());
        cluster.wait_for_exit(leader)?;
        cluster.restart(Part::Coordinator(leader))?;
    }
    stop(&client, &runs).await?;
    let lines = journal.read()?;
    let mut outcomes = load::outcomes(&client, &runs).await?;
    // Most tasks have never been started.
    outcomes.values_mut().for_each(|tasks| tasks.retain(|_, (_, attempt)| 0 < *attempt));
    check_known(&lines, &outcomes)?;
    table.finish(&lines, &runs, &outcomes);
    table.check()?;
    Ok(table)
}

/// Many tasks, a hundred of which are ready at a time. They leave some room for the probe.
fn document(journal: &Path, n_tasks: usize) -> String {
    let mut file = String::from("name: many\ndefaults: { resources: { cpu: 0.39 } }\ntasks:\n");
    let script = script(journal, TASK_SECONDS);
    for n in 0..n_tasks {
        let needs = n.checked_sub(100).map_or(String::new(), |above| format!("t{above}"));
        file.push_str(&format!("  t{n}: {{ needs: [{needs}], run: '{script}' }}\n"));
    }
    file
}

/// Pauses all runs, and waits until no task runs any more.
async fn stop(client: &Client, runs: &Runs) -> anyhow::Result<()> {
    let states = vec![TaskState::Leased, TaskState::Running];
    let active = TaskFilter { states, ..TaskFilter::default() };
    let since = Instant::now();
    for run in &runs.acknowledged {
        if !client.get(*run).await?.state.is_terminal() {
            client.pause(*run).await?;
        }
    }
    for run in &runs.acknowledged {
        while !client.list_tasks(*run, &active, 1, None).await?.items.is_empty() {
            ensure!(since.elapsed() < END_MAX, "tasks of {run} do not end");
            sleep(Duration::from_millis(100)).await; // poll
        }
    }
    Ok(())
}

/// Checks that the coordinators know of everything that has started.
fn check_known(lines: &[Line], outcomes: &Outcomes) -> anyhow::Result<()> {
    let known: BTreeMap<String, _> =
        outcomes.iter().map(|(run, tasks)| (run.to_string(), tasks)).collect();
    for line in lines {
        let Line::Start(attempt) = line else { continue };
        let is_known = known.get(&attempt.run).is_some_and(|run| run.contains_key(&attempt.task));
        ensure!(is_known, "{attempt:?} has started, and no coordinator knows of it");
    }
    Ok(())
}
