//! A cluster under load whose parts are killed, paused and stopped at random. What counts is what
//! tasks have written to disk themselves.
//!
//! One fault follows another. After each, a probe is submitted, and the time until its task writes
//! to the journal is the time to recover. At the end everything is healed, all acknowledged runs
//! must succeed, and the journal is compared with what the coordinators say.

mod faults;
mod journal;
mod load;
mod table;
mod takeovers;

use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use kahn_client::{Client, Options as ClientOptions};
use tokio::time::Instant;

use crate::coordinators::Coordinators;
use faults::Fault;
use journal::Journal;
use load::Load;

pub use table::Table;
pub use takeovers::replace_leaders;

/// How long a probe may take before the cluster counts as broken.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// How long everything may take to end after the last fault.
const END_MAX: Duration = Duration::from_secs(300);

const POLL_EVERY: Duration = Duration::from_millis(10);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long faults are injected.
    pub duration: Duration,
    /// Determines the order of the faults. Their effects also depend on timing.
    pub seed: u64,
}

/// Runs a cluster of three coordinators, three workers and Redis, and injects faults.
///
/// # Errors
///
/// Returns an error if the cluster cannot be started, does not recover, or a promise is broken. The
/// message contains what was found, and the output of all processes.
pub async fn run(options: Options) -> anyhow::Result<Table> {
    let mut cluster = Coordinators::start_with_wires(3, 3)?;
    let result = inject_faults(&mut cluster, options).await;
    result.with_context(|| cluster.printed())
}

async fn inject_faults(cluster: &mut Coordinators, options: Options) -> anyhow::Result<Table> {
    let mut rng = Rng::with_seed(options.seed);
    let client = connect(cluster).await?;
    let journal = Journal::create(cluster.write("journal", "")?);
    let load = Load::start(client.clone(), journal.path().to_owned());
    let mut table = Table::default();
    let until = Instant::now() + options.duration;
    while Instant::now() < until {
        let fault = Fault::draw(&mut rng, cluster);
        journal.mark(&fault)?;
        let began_at = Instant::now();
        fault.begin(cluster).with_context(|| format!("{fault:?}"))?;
        // A task that was being started then may write only now.
        journal.mark(&fault)?;
        let end = async {
            tokio::time::sleep_until(began_at + fault.span()).await;
            while !fault.may_end(cluster) {
                tokio::time::sleep(POLL_EVERY).await; // poll
            }
            journal.mark(&fault)?;
            fault.end(cluster)
        };
        let probe = async {
            let recovered = load::probe(&client, &journal, RECOVERY_MAX).await;
            recovered.map(|_| began_at.elapsed())
        };
        let (ended, recovered) = tokio::join!(end, probe);
        ended.with_context(|| format!("{fault:?}"))?;
        table.recovered(fault.name(), recovered.with_context(|| format!("after {fault:?}"))?);
        // The next fault comes at a moment that does not depend on this one.
        let pause = Duration::from_millis(rng.u64(100..=1500));
        tokio::time::sleep_until(Instant::now() + pause).await;
    }
    let runs = load.stop().await?;
    load::wait_for_end(&client, &runs, END_MAX).await?;
    let outcomes = load::outcomes(&client, &runs).await?;
    table.finish(&journal.read()?, &runs, &outcomes);
    table.check()?;
    Ok(table)
}

async fn connect(cluster: &Coordinators) -> anyhow::Result<Client> {
    let client = Client::connect(&cluster.urls(), Some(&cluster.client_token()?)).await?;
    let outage_timeout = RECOVERY_MAX;
    let call_timeout = Duration::from_secs(10);
    Ok(client.with_options(ClientOptions {
        outage_timeout,
        call_timeout,
        ..ClientOptions::default()
    }))
}
