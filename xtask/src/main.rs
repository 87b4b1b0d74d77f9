//! Commands for developers and CI: `cargo xtask test`, `ci`, `tidy`, `chart`, `sim`, `torture`,
//! `takeovers`, `kubernetes`, `compose`, `hosts`, `upgrade` and `fuzz`.
//!
//! Needs only cargo. Each command installs its other prerequisites or asks for them.

use std::process::ExitCode;

use anyhow::{Result, bail};

mod chart;
mod checks;
mod ci;
mod compose;
mod engine;
mod fuzz;
mod hosts;
mod kubernetes;
mod machine;
mod process;
mod sim;
mod takeovers;
mod test;
mod tidy;
mod torture;
mod upgrade;
mod workspace;

const USAGE: &str = "usage: cargo xtask <command>

  test [filter]              build the kahn binary, then run all tests, or those with this name
  ci                         fmt, clippy, tidy, chart, test, sim, torture and fuzz: what CI runs
  tidy                       check layers, headers, links and other habits of this repository
  chart [--check]            update, or only check, the documentation of the helm chart, and check the
                             chart itself
  sim [--seeds N] [--seed S] run the simulator over N seeds, or over seed S alone
  fuzz [--seconds N]         drive each byte-driven test for N seconds
  torture [--minutes N] [--seed S] [--store redis|sentinel|cluster]
                             kill, pause, cut off and starve the parts of a cluster under load
  kubernetes up|test|down    start a real Kubernetes here (needs root), or also test the chart in it,
                             or remove what is left of one
  compose                    build the image, and start docker-compose.yml on a private engine (needs root)
  hosts                      install, upgrade and purge the Debian package in a virtual machine (needs root)
  takeovers [--times N] [--live TASKS]
                             kill and stop the leader of a cluster with many live tasks
  upgrade [--from REVISION]  run this version and an earlier one together, under load
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::print_error(&format!("error: {error:#}"));
            ExitCode::from(process::exit_code(&error))
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["test"] => test::run(None),
        ["test", filter] => test::run(Some(filter)),
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["chart", ref options @ ..] => chart::run(chart::parse(options)?),
        ["sim", ref options @ ..] => sim::run(&sim::Seeds::parse(options)?),
        ["torture", ref options @ ..] => torture::run(torture::Options::parse(options)?),
        ["kubernetes", ref options @ ..] => kubernetes::run(kubernetes::parse(options)?),
        ["compose"] => compose::run(),
        ["hosts"] => hosts::run(),
        ["takeovers", ref options @ ..] => takeovers::run(takeovers::Options::parse(options)?),
        ["upgrade", ref options @ ..] => upgrade::run(upgrade::parse(options)?),
        ["fuzz", ref options @ ..] => fuzz::run(fuzz::parse(options)?),
        ["help" | "--help" | "-h"] => {
            process::say(USAGE);
            Ok(())
        }
        _ => bail!("unknown command\n\n{USAGE}"),
    }
}
