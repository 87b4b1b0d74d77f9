//! A run with retries, outputs and output for tests of upgrades, and another one to be cancelled.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::coordinators::Coordinators;
use crate::history::History;
use crate::wait::{wait_for, wait_until};

const CHAINS: usize = 12;
const TASKS_PER_CHAIN: usize = 40;
/// Every task with this number in its chain fails at its first attempt.
const FAILS_ONCE: usize = 7;
const TIMEOUT: Duration = Duration::from_secs(180);

/// Two runs: chains of 480 short tasks, and tasks that never end.
#[derive(Debug)]
pub struct Work {
    run: String,
    other: String,
}

impl Work {
    /// Submits both runs.
    ///
    /// # Errors
    ///
    /// Returns an error if they are not acknowledged.
    pub fn submit(cluster: &Coordinators) -> anyhow::Result<Self> {
        let run = submit(cluster, "chains.yaml", &chains())?;
        let other = submit(cluster, "endless.yaml", ENDLESS)?;
        Ok(Self { run, other })
    }

    /// Waits until this many tasks have succeeded.
    ///
    /// # Errors
    ///
    /// Returns an error if they do not in time.
    pub fn wait_until_ended(&self, cluster: &Coordinators, n: u64) -> anyhow::Result<()> {
        wait_until(&format!("{n} tasks to end"), TIMEOUT, || {
            let shown = shown(cluster, &self.run).ok();
            shown.is_some_and(|shown| n <= shown["tasks"]["succeeded"].as_u64().unwrap_or(0))
        })
        .with_context(|| cluster.printed())
    }

    /// Returns whether the chains have ended.
    #[must_use]
    pub fn has_ended(&self, cluster: &Coordinators) -> bool {
        self.history(cluster).is_ok_and(|history| history.has("run_succeeded"))
    }

    /// Cancels the tasks that never end, and waits until they have.
    ///
    /// # Errors
    ///
    /// Returns an error if they do not in time.
    pub fn cancel_other(&self, cluster: &Coordinators) -> anyhow::Result<()> {
        cluster.kahn(&["cancel", &self.other])?.ok()?;
        wait_until("the other run to be cancelled", TIMEOUT, || {
            shown(cluster, &self.other).is_ok_and(|shown| shown["state"] == "cancelled")
        })
        .with_context(|| cluster.printed())
    }

    /// Waits for the end of the chains, and checks that every task has run once, or twice if it
    /// fails at first, and that all output is there.
    ///
    /// # Errors
    ///
    /// Returns an error that names what is missing or was repeated.
    pub fn check_end(&self, cluster: &Coordinators) -> anyhow::Result<()> {
        let ended = wait_for("the run to end", TIMEOUT, || {
            self.history(cluster).ok().filter(|history| history.has("run_succeeded"))
        });
        let history = ended.with_context(|| cluster.printed())?;
        history.check_outcomes()?;
        let starts = history.starts();
        ensure!(starts.len() == CHAINS * TASKS_PER_CHAIN, "{} tasks started", starts.len());
        for (task, starts) in starts {
            let fails_once = task.ends_with(&format!("-{FAILS_ONCE}"));
            let expected = if fails_once { 2 } else { 1 };
            ensure!(starts.len() == expected, "{task} started {} times", starts.len());
        }
        for chain in 0..CHAINS {
            let task = format!("c{chain}-{}", TASKS_PER_CHAIN - 1);
            let printed = cluster.kahn(&["logs", &self.run, &task])?.ok()?.stdout;
            ensure!(printed.trim() == format!("output of {task}"), "{task} printed {printed:?}");
        }
        Ok(())
    }

    /// Returns the events of the chains.
    ///
    /// # Errors
    ///
    /// Returns an error if the leader does not return them.
    pub fn history(&self, cluster: &Coordinators) -> anyhow::Result<History> {
        cluster.history(&self.run)
    }
}

const ENDLESS: &str = "name: endless\ntasks:\n  a: { run: exec sleep 100000 }\n  b: { run: exec \
                       sleep 100000, resources: { cpu: 0.1 } }\n";

fn chains() -> String {
    let mut text = String::from(
        "name: chains\ndefaults: { resources: { cpu: 0.5 }, retry: { max_attempts: 2, backoff: { \
         initial: 100ms } } }\ntasks:\n",
    );
    for chain in 0..CHAINS {
        for n in 0..TASKS_PER_CHAIN {
            let task = format!("c{chain}-{n}");
            let fails = if n == FAILS_ONCE { "test $KAHN_ATTEMPT -gt 1; " } else { "" };
            let needs = if n == 0 { String::new() } else { format!("c{chain}-{}", n - 1) };
            let end = format!("echo n={n} >> $KAHN_OUTPUT; echo output of {task}");
            text.push_str(&format!(
                "  {task}:\n    needs: [{needs}]\n    run: 'set -e; sleep 0.5; {fails}{end}'\n"
            ));
        }
    }
    text
}

fn submit(cluster: &Coordinators, name: &str, text: &str) -> anyhow::Result<String> {
    let file = cluster.write(name, text)?.display().to_string();
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    Ok(submitted["run"].as_str().context("a run")?.to_owned())
}

fn shown(cluster: &Coordinators, run: &str) -> anyhow::Result<serde_json::Value> {
    cluster.kahn(&["get", run, "--output", "json"])?.ok()?.json()
}
