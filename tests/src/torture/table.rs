//! The result: how often which fault was injected, how long recovery took, and whether any promise
//! was broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::ensure;

use super::faults::Kind;
use super::journal::{Attempt, Line};
use super::load::{Outcomes, Runs};

/// Numbers of a run of the torture.
#[derive(Debug, Default)]
pub struct Table {
    /// Times to recover, by kind of fault.
    recoveries: BTreeMap<Kind, Vec<Duration>>,
    /// What could not be done, and why.
    not_run: Vec<String>,
    n_runs: usize,
    n_attempts: usize,
    /// Attempts that were repeated because of what was done to their worker.
    n_repeated: usize,
    broken: Vec<String>,
}

impl Table {
    /// Creates a table with a row for each of these kinds. `not_run` says what cannot be done here.
    pub(super) fn of(kinds: &[Kind], not_run: Vec<String>) -> Self {
        let recoveries = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
        Self { recoveries, not_run, ..Self::default() }
    }

    pub(super) fn recovered(&mut self, kind: Kind, after: Duration) {
        self.recoveries.entry(kind).or_default().push(after);
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
        let mut latest: BTreeMap<(&str, &str), (usize, bool, &Attempt)> = BTreeMap::new();
        // The workers to which something is being done.
        let mut hit = BTreeSet::new();
        for (at, line) in lines.iter().enumerate() {
            let attempt = match line {
                Line::Start(attempt) => attempt,
                Line::End(_) => continue,
                Line::WorkerHit(ix) => {
                    hit.insert(*ix);
                    continue;
                }
                Line::WorkerHealed(ix) => {
                    hit.remove(ix);
                    continue;
                }
            };
            let key = (attempt.run.as_str(), attempt.task.as_str());
            let found = (at, hit.contains(&attempt.worker), attempt);
            if let Some((since, was_hit, earlier)) = latest.insert(key, found) {
                self.n_repeated += 1;
                let of_its = Line::WorkerHit(earlier.worker);
                let is_excused = was_hit || lines[since..at].contains(&of_its);
                if attempt.number <= earlier.number || !is_excused {
                    self.broken.push(format!("{attempt:?} repeats {earlier:?}"));
                }
            }
        }
    }

    /// Finds tasks that count as succeeded, and whose latest attempt has not done its work.
    fn check_recorded(&mut self, lines: &[Line], outcomes: &Outcomes) {
        let done = |line: &Line| match line {
            Line::End(done) => Some((done.run.clone(), done.task.clone(), done.number)),
            Line::Start(_) | Line::WorkerHit(_) | Line::WorkerHealed(_) => None,
        };
        let done: BTreeSet<_> = lines.iter().filter_map(done).collect();
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
        for (kind, times) in &self.recoveries {
            let mut times = times.clone();
            times.sort_unstable();
            let (name, n) = (kind.name(), times.len());
            let seconds = |time: &Duration| format!("{:.2} s", time.as_secs_f64());
            let p50 = times.get(n / 2).map_or("–".to_owned(), seconds);
            let max = times.last().map_or("–".to_owned(), seconds);
            writeln!(f, "| {name} | {n} | {p50} | {max} |")?;
        }
        for reason in &self.not_run {
            writeln!(f, "\nNOT RUN: {reason}")?;
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
        let (hit, healed) = (Line::WorkerHit, Line::WorkerHealed);
        assert_eq!(n_broken(&[first.clone(), hit(0), healed(0), second.clone()]), 0);
        assert_eq!(n_broken(&[first.clone(), hit(1), second.clone()]), 1);
        assert_eq!(n_broken(&[hit(0), healed(0), first.clone(), second.clone()]), 1);
        assert_eq!(n_broken(&[hit(0), first.clone(), second]), 0);
        assert_eq!(n_broken(&[first.clone(), hit(0), first]), 1);
    }

    #[test]
    fn kinds_that_did_not_come_and_what_cannot_be_done_are_shown() {
        let mut table = Table::of(
            &[Kind::LeaderKilled, Kind::WorkerClock],
            vec!["full disks: not root".to_owned()],
        );
        table.recovered(Kind::LeaderKilled, Duration::from_millis(1_500));
        let shown = table.to_string();
        assert!(shown.contains("| leader killed | 1 | 1.50 s | 1.50 s |"), "{shown}");
        assert!(shown.contains("| clock of a worker stepped | 0 | – | – |"), "{shown}");
        assert!(shown.contains("NOT RUN: full disks: not root"), "{shown}");
    }
}
