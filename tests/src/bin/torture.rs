//! `cargo xtask torture`: injects faults into a cluster and prints a table.

#![expect(clippy::print_stdout, reason = "the table is its result")]

use std::time::Duration;

use anyhow::{Context as _, bail};
use kahn_e2e::torture::{Options, run};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["--minutes", minutes, "--seed", seed] = words[..] else {
        bail!("usage: torture --minutes N --seed S");
    };
    let minutes: f64 = minutes.parse().context("--minutes")?;
    let options = Options {
        duration: Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?,
        seed: seed.parse().context("--seed")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(run(options))?);
    Ok(())
}
