//! A cluster under load whose parts are killed, paused and stopped at random. What counts is what
//! tasks have written to disk themselves.
//!
//! One fault follows another. After each, a probe is submitted, and the time until its task writes
//! to the journal is the time to recover. At the end everything is healed, all acknowledged runs
//! must succeed, and the journal is compared with what the coordinators say.

mod faults;
mod journal;
mod load;
mod setting;
mod table;
mod takeovers;

use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use kahn_client::{Client, Options as ClientOptions};
use tokio::time::Instant;

use crate::coordinators::Coordinators;
use crate::servers::StoreKind;
use faults::{Deck, Fault};
use journal::Journal;
use load::Load;
use setting::Setting;

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
    /// How Redis is run.
    pub store: StoreKind,
}

/// Runs a cluster of three coordinators, three workers and Redis, and injects faults. Each kind of
/// fault comes once before any comes again.
///
/// # Errors
///
/// Returns an error if the cluster cannot be started, does not recover, or a promise is broken. The
/// message contains what was found, and the output of all processes.
pub async fn run(options: Options) -> anyhow::Result<Table> {
    let mut setting = Setting::start(options.store)?;
    let result = torture(&mut setting, options).await;
    result.with_context(|| setting.cluster.printed())
}

async fn torture(setting: &mut Setting, options: Options) -> anyhow::Result<Table> {
    let client = connect(&setting.cluster).await?;
    let journal = Journal::create(setting.cluster.write("journal", "")?);
    let load = Load::start(client.clone(), journal.path().to_owned());
    let mut table = Table::of(&setting.kinds, std::mem::take(&mut setting.not_run));
    let mut deck = Deck::of(&setting.kinds);
    let mut rng = Rng::with_seed(options.seed);
    let until = Instant::now() + options.duration;
    while Instant::now() < until {
        let fault = Fault::draw(deck.draw(&mut rng), &mut rng, &setting.cluster);
        let recovered = inject(&fault, &mut setting.cluster, &client, &journal).await;
        table.recovered(fault.kind(), recovered.with_context(|| format!("{fault:?}"))?);
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

/// Begins and ends a fault, and returns how long it took from its beginning until the task of a
/// probe started.
async fn inject(
    fault: &Fault,
    cluster: &mut Coordinators,
    client: &Client,
    journal: &Journal,
) -> anyhow::Result<Duration> {
    journal.mark(fault)?;
    let began_at = Instant::now();
    fault.begin(cluster)?;
    // A task that was being started then may write only now.
    journal.mark(fault)?;
    let (client, seen_by) = (client.clone(), journal.clone());
    // A task of its own, because the end of a fault may block.
    let probe = tokio::spawn(async move {
        load::probe(&client, &seen_by, RECOVERY_MAX).await.map(|_| began_at.elapsed())
    });
    tokio::time::sleep_until(began_at + fault.span()).await;
    while !fault.may_end(cluster) {
        tokio::time::sleep(POLL_EVERY).await; // poll
    }
    journal.mark(fault)?;
    fault.end(cluster)?;
    journal.mark_end(fault)?;
    probe.await?
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
