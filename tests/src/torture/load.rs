//! The load: runs that are submitted all the time, and probes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kahn_client::{Client, Submission, TaskFilter};
use kahn_model::{RunId, RunState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::journal::{Journal, script};

/// The number of runs that are live at the same time.
const LIVE: usize = 5;
const LAYERS: usize = 5;
const TASKS_PER_LAYER: usize = 8;

/// What an attempt does on a worker whose disk is full is repeated until it is not.
const RETRY: &str = "retry: { max_attempts: 20, backoff: { initial: 500ms, max: 2s } }";

/// The final state and the number of attempts of each task of a run.
pub(super) type Outcomes = BTreeMap<RunId, BTreeMap<String, (String, u32)>>;

/// The runs whose submission was acknowledged, and the outcomes of those that have ended, as they
/// were seen first.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub acknowledged: Vec<RunId>,
    pub seen: Outcomes,
}

/// A task that keeps some runs live.
#[derive(Debug)]
pub(super) struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Runs>>,
}

impl Load {
    pub(super) fn start(client: Client, journal: PathBuf) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(keep_live(client, journal, stopped));
        Self { stop, task }
    }

    /// Stops submitting, and returns all runs so far.
    pub(super) async fn stop(self) -> anyhow::Result<Runs> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

async fn keep_live(
    client: Client,
    journal: PathBuf,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Runs> {
    let mut runs = Runs::default();
    let mut live: Vec<RunId> = Vec::new();
    let document = document(&journal);
    while !*stopped.borrow() {
        if live.len() < LIVE {
            let submitted = client.submit(&Submission::new(&document)).await?;
            runs.acknowledged.push(submitted.run);
            live.push(submitted.run);
            continue;
        }
        for run in std::mem::take(&mut live) {
            if client.get(run).await?.state.is_terminal() {
                runs.seen.insert(run, outcomes_of(&client, run).await?);
            } else {
                live.push(run);
            }
        }
        sleep(Duration::from_millis(200)).await; // poll
    }
    Ok(runs)
}

/// Layers of tasks of different durations, each depending on two of the layer before.
fn document(journal: &Path) -> String {
    let mut file =
        format!("name: load\ndefaults: {{ resources: {{ cpu: 0.9 }}, {RETRY} }}\ntasks:\n");
    for layer in 0..LAYERS {
        for n in 0..TASKS_PER_LAYER {
            let seconds = [0.05, 0.1, 0.2, 0.6][(layer + n) % 4];
            file.push_str(&format!("  l{layer}-{n}:\n    run: {}\n", script(journal, seconds)));
            if layer > 0 {
                let (above, next) = (layer - 1, (n + 1) % TASKS_PER_LAYER);
                file.push_str(&format!("    needs: [l{above}-{n}, l{above}-{next}]\n"));
            }
        }
    }
    file
}

/// Submits a run of one task, and waits until the task has written to the journal. Returns the run.
pub(super) async fn probe(
    client: &Client,
    journal: &Journal,
    timeout: Duration,
) -> anyhow::Result<RunId> {
    let since = Instant::now();
    let script = script(journal.path(), 0.0);
    let document = format!(
        "name: probe\npolicy: {{ priority: 100 }}\ntasks:\n  probe:\n    run: {script}\n    \
         resources: {{ cpu: 0.01 }}\n    {RETRY}\n"
    );
    let run = client.submit(&Submission::new(document)).await?.run;
    while !journal.has_start(&run.to_string()) {
        ensure!(since.elapsed() < timeout, "probe {run} has not started within {timeout:?}");
        sleep(Duration::from_millis(10)).await; // poll
    }
    Ok(run)
}

/// Waits until all runs have ended.
pub(super) async fn wait_for_end(
    client: &Client,
    runs: &Runs,
    timeout: Duration,
) -> anyhow::Result<()> {
    let since = Instant::now();
    for run in &runs.acknowledged {
        loop {
            let found = client.get(*run).await.with_context(|| format!("run {run} is lost"))?;
            match found.state {
                RunState::Succeeded => break,
                state => ensure!(!state.is_terminal(), "run {run} has {state}"),
            }
            ensure!(since.elapsed() < timeout, "run {run} has not ended: {:?}", found.waiting);
            sleep(Duration::from_millis(100)).await; // poll
        }
    }
    Ok(())
}

/// Returns the outcomes of all tasks of all runs.
pub(super) async fn outcomes(client: &Client, runs: &Runs) -> anyhow::Result<Outcomes> {
    let mut all = Outcomes::new();
    for run in &runs.acknowledged {
        all.insert(*run, outcomes_of(client, *run).await?);
    }
    Ok(all)
}

async fn outcomes_of(
    client: &Client,
    run: RunId,
) -> anyhow::Result<BTreeMap<String, (String, u32)>> {
    let (mut outcomes, mut page) = (BTreeMap::new(), None);
    loop {
        let tasks = client.list_tasks(run, &TaskFilter::default(), 0, page.as_deref()).await?;
        let outcome = |task: kahn_client::Task| (task.name, (task.state.to_string(), task.attempt));
        outcomes.extend(tasks.items.into_iter().map(outcome));
        page = tasks.next;
        if page.is_none() {
            return Ok(outcomes);
        }
    }
}
