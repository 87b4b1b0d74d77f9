//! The result: how often which fault was injected, how long recovery took, and whether any promise
//! was broken.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::ensure;

use super::journal::{Attempt, Line};
use super::load::{Outcomes, Runs};

/// Numbers of a run of the torture.
#[derive(Debug, Default)]
pub struct Table {
    /// Times to recover, by kind of fault.
    recoveries: BTreeMap<&'static str, Vec<Duration>>,
    n_runs: usize,
    n_attempts: usize,
    /// Attempts that were repeated because their worker was killed or paused.
    n_repeated: usize,
    broken: Vec<String>,
}

impl Table {
    pub(super) fn recovered(&mut self, fault: &'static str, after: Duration) {
        self.recoveries.entry(fault).or_default().push(after);
    }

    /// Compares what the coordinators say with what tasks have written.
    pub(super) fn finish(&mut self, lines: &[Line], runs: &Runs, outcomes: &Outcomes) {
        self.n_runs = runs.acknowledged.len();
        self.n_attempts = lines.iter().filter(|line| matches!(line, Line::Start(_))).count();
        self.check_repeated(lines);
        self.check_recorded(lines, outcomes);
        for (run, seen) in &runs.seen {
            if outcomes.get(run) != Some(seen) {
                self.broken.push(format!("outcomes of run {run} have changed"));
            }
        }
    }

    /// Finds attempts that were repeated although nothing had happened to their worker.
    fn check_repeated(&mut self, lines: &[Line]) {
        let mut latest: BTreeMap<(&str, &str), (usize, &Attempt)> = BTreeMap::new();
        for (at, line) in lines.iter().enumerate() {
            let Line::Start(attempt) = line else { continue };
            let key = (attempt.run.as_str(), attempt.task.as_str());
            if let Some((since, earlier)) = latest.insert(key, (at, attempt)) {
                self.n_repeated += 1;
                let hit = Line::WorkerHit(earlier.worker);
                if attempt.number <= earlier.number || !lines[since..at].contains(&hit) {
                    self.broken.push(format!("{attempt:?} repeats {earlier:?}"));
                }
            }
        }
    }

    /// Finds tasks that count as succeeded, and whose latest attempt has not done its work.
    fn check_recorded(&mut self, lines: &[Line], outcomes: &Outcomes) {
        let done = |line: &Line| match line {
            Line::End(done) => Some((done.run.clone(), done.task.clone(), done.number)),
            Line::Start(_) | Line::WorkerHit(_) => None,
        };
        let done: std::collections::BTreeSet<_> = lines.iter().filter_map(done).collect();
        for (run, tasks) in outcomes {
            for (task, (state, attempt)) in tasks {
                let is_done = done.contains(&(run.to_string(), task.clone(), *attempt));
                if state != "succeeded" || !is_done {
                    self.broken.push(format!("{run} {task} {state} attempt {attempt}: {is_done}"));
                }
            }
        }
    }

    /// Returns an error if a promise was broken.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.broken.is_empty(), "{self}\n{}", self.broken.join("\n"));
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | times | recovery p50 | recovery max |\n|---|---|---|---|")?;
        for (fault, times) in &self.recoveries {
            let mut times = times.clone();
            times.sort_unstable();
            let (n, p50) = (times.len(), times[times.len() / 2].as_secs_f64());
            let max = times.last().map_or(0.0, Duration::as_secs_f64);
            writeln!(f, "| {fault} | {n} | {p50:.2} s | {max:.2} s |")?;
        }
        writeln!(
            f,
            "\n{} runs acknowledged, {} attempts started, {} repeated after their worker was hit, \
             {} promises broken",
            self.n_runs,
            self.n_attempts,
            self.n_repeated,
            self.broken.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, worker: usize) -> Attempt {
        Attempt { run: "r".into(), task: "t".into(), number, worker }
    }

    fn n_broken(lines: &[Line]) -> usize {
        let mut table = Table::default();
        table.check_repeated(lines);
        table.broken.len()
    }

    #[test]
    fn only_a_hit_worker_excuses_a_repetition() {
        let (first, second) = (Line::Start(attempt(1, 0)), Line::Start(attempt(2, 1)));
        let hit = Line::WorkerHit;
        assert_eq!(n_broken(&[first.clone(), hit(0), second.clone()]), 0);
        assert_eq!(n_broken(&[first.clone(), hit(1), second.clone()]), 1);
        assert_eq!(n_broken(&[hit(0), first.clone(), second]), 1);
        assert_eq!(n_broken(&[first.clone(), hit(0), first]), 1);
    }
}
