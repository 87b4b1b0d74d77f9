//! `cargo xtask torture`: injects faults into a cluster and prints a table.

#![expect(clippy::print_stdout, reason = "the table is its result")]

use std::time::Duration;

use anyhow::{Context as _, bail};
use kahn_e2e::torture::{Options, Table, replace_leaders, run};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(start(&words))?);
    Ok(())
}

async fn start(words: &[&str]) -> anyhow::Result<Table> {
    match *words {
        ["--minutes", minutes, "--seed", seed, "--store", store] => {
            let minutes: f64 = minutes.parse().context("--minutes")?;
            let duration = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
            let seed = seed.parse().context("--seed")?;
            run(Options { duration, seed, store: store.parse().context("--store")? }).await
        }
        ["--takeovers", takeovers, "--live", live] => {
            let takeovers = takeovers.parse().context("--takeovers")?;
            replace_leaders(takeovers, live.parse().context("--live")?).await
        }
        _ => bail!(
            "usage: torture --minutes N --seed S --store redis|sentinel|cluster, or \
             torture --takeovers N --live TASKS"
        ),
    }
}
