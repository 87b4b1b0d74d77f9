//! `cargo xtask ci`: runs exactly the checks of CI, fastest to fail first.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::{self, cargo, say};
use crate::workspace::root;
use crate::{chart, fuzz, kubernetes, machine, sim, test, tidy, torture};

/// Runs every check, stopping at the first failure.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    let result = checks(&mut steps);
    say(&steps.report());
    result
}

fn checks(steps: &mut Steps) -> Result<()> {
    steps.run_if_there("fmt", "rustfmt", || {
        process::run(cargo().args(["fmt", "--all", "--check"]).current_dir(root()))
    })?;
    steps.run_if_there("clippy", "clippy", || {
        let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        process::run(cargo().args(lints).current_dir(root()))
    })?;
    steps.run("tidy", tidy::run)?;
    steps.run("chart", || chart::run(chart::Mode::Check))?;
    steps.run("test", || test::run(None))?;
    steps.run("sim", || sim::run(&sim::Seeds::First(sim::CI_SEEDS)))?;
    steps.run("torture", || torture::run(torture::CI))?;
    steps.run("fuzz", || fuzz::run(fuzz::CI_SECONDS))?;
    match kubernetes::reason_not_to_test() {
        None => steps.run("kubernetes", || kubernetes::run(kubernetes::for_ci())),
        Some(reason) => {
            steps.0.push(("kubernetes", Outcome::NotRun(reason)));
            Ok(())
        }
    }
}

/// The finished checks, each with its duration or the reason why it was not run.
#[derive(Debug, Default)]
struct Steps(Vec<(&'static str, Outcome)>);

#[derive(Debug)]
enum Outcome {
    Took(Duration),
    NotRun(String),
}

impl Steps {
    fn run(&mut self, name: &'static str, check: impl FnOnce() -> Result<()>) -> Result<()> {
        #[expect(clippy::disallowed_methods, reason = "a tool that reports how long it took")]
        let started_at = Instant::now();
        let result = check();
        self.0.push((name, Outcome::Took(started_at.elapsed())));
        result
    }

    /// Runs a check that needs a component of the toolchain. If it is missing, the check is skipped
    /// and the report says so.
    fn run_if_there(
        &mut self,
        name: &'static str,
        component: &str,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match machine::ensure_component(component, name) {
            Ok(()) => self.run(name, check),
            Err(error) => {
                self.0.push((name, Outcome::NotRun(format!("{error:#}"))));
                Ok(())
            }
        }
    }

    fn report(&self) -> String {
        let line = |(name, outcome): &(&str, Outcome)| match outcome {
            Outcome::Took(time) => format!("{:>6} s  {name}\n", time.as_secs()),
            Outcome::NotRun(reason) => format!("NOT RUN   {name}: {reason}\n"),
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_times_and_says_loudly_what_was_not_run() {
        let steps = Steps(vec![
            ("clippy", Outcome::NotRun("cargo clippy is needed".to_owned())),
            ("tidy", Outcome::Took(Duration::from_millis(2_300))),
        ]);
        let expected = "NOT RUN   clippy: cargo clippy is needed\n     2 s  tidy\n";
        assert_eq!(steps.report(), expected);
    }

    #[test]
    fn a_check_whose_component_is_missing_is_left_out_and_the_others_go_on() {
        let mut steps = Steps::default();
        steps.run_if_there("no-such-command", "no-such-component", || panic!("runs")).unwrap();
        steps.run("next", || Ok(())).unwrap();
        assert!(steps.report().starts_with("NOT RUN   no-such-command: "), "{}", steps.report());
        assert!(steps.report().ends_with(" s  next\n"), "{}", steps.report());
    }
}
