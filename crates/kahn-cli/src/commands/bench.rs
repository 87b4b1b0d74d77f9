//! `kahn bench`: measures how fast this host runs Kahn, with real processes, and compares it with
//! the limits of the host.

mod echo;
mod floor;
mod guard;
mod hops;
mod processes;
mod workload;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kahn_client::{Client, Submission};
use kahn_model::RunState;
use serde::Serialize;
use tokio::time::Instant;

use self::hops::{Hops, quantile};
use self::processes::{Bench, Role};
use self::workload::Workload;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;

/// Measure this host
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Option<BenchCommand>,
    /// Workloads to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::USUAL)]
    workload: Vec<Workload>,
    /// Number of tasks [default: depends on the workload]
    #[arg(long)]
    tasks: Option<usize>,
    /// Store of the coordinator
    #[arg(long, value_enum, default_value_t = StoreKind::Embedded)]
    store: StoreKind,
    /// Use this Redis server instead of starting one
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Number of workers
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Program to start as worker, instead of this one, for workloads that need its functions
    #[arg(long, value_name = "FILE")]
    worker_program: Option<PathBuf>,
    /// Number of rounds per workload; the median is reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Debug, Subcommand)]
enum BenchCommand {
    /// Measure the limits of the host: a stream round trip, an append, process starts
    Floor,
    /// Serve the stream that `floor` measures
    #[command(hide = true)]
    Echo {
        /// The port to serve on
        #[arg(long)]
        port: u16,
    },
}

/// The store of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// In memory
    Memory,
    /// In a file
    Embedded,
    /// In a file, with fsync
    EmbeddedDisk,
    /// In Redis, with fsync of the append-only file every second
    Redis,
    /// In Redis, with fsync of the append-only file on every write
    RedisAlways,
}

impl StoreKind {
    fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Embedded => "embedded",
            Self::EmbeddedDisk => "embedded_disk",
            Self::Redis => "redis",
            Self::RedisAlways => "redis_always",
        }
    }
}

/// The result of one workload; the names are stable.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    workload: &'static str,
    store: &'static str,
    tasks: usize,
    dependencies: usize,
    rounds: usize,
    seconds: f64,
    submit_seconds: f64,
    tasks_per_second: f64,
    /// Time from the end of the last dependency to the start of its dependent, both as recorded by
    /// the coordinator.
    hop_p50_us: Option<f64>,
    hop_p99_us: Option<f64>,
    /// Ideal time divided by measured time, if there is an ideal time.
    efficiency: Option<f64>,
    /// Growth of the coordinator's resident memory per task, in the first round.
    coordinator_bytes_per_task: Option<f64>,
    processes: Vec<processes::Cost>,
}

/// Executes the command.
pub(crate) async fn carry_out(args: BenchArgs, context: &Context) -> Result<Exit, Failure> {
    match args.what {
        Some(BenchCommand::Echo { port }) => echo::serve(port).await,
        Some(BenchCommand::Floor) => {
            let floor = floor::measure(args.store, args.redis_url.as_deref()).await?;
            show(&floor, context)
        }
        None => {
            for workload in &args.workload {
                let measured = measure(*workload, &args).await?;
                show(&measured, context)?;
            }
            Ok(Exit::Success)
        }
    }
}

/// Prints a JSON object in both formats, because the results are meant to be compared.
fn show(value: &impl Serialize, context: &Context) -> Result<Exit, Failure> {
    if context.is_json() {
        output::json(value)?;
    } else {
        let pretty = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
        output::text(&format!("{pretty}\n"))?;
    }
    Ok(Exit::Success)
}

/// The result of one round.
struct Round {
    seconds: f64,
    submit_seconds: f64,
    hops: Hops,
    costs: Vec<processes::Cost>,
    bytes_grown: u64,
}

async fn measure(workload: Workload, args: &BenchArgs) -> Result<Measured, Failure> {
    let tasks = args.tasks.unwrap_or_else(|| workload.usual_tasks());
    let (document, dependencies) = workload.document(tasks);
    let capacity = workload.capacity();
    if workload == Workload::Function && args.worker_program.is_none() {
        let message = "the workload `function` needs a worker that has a function `noop`";
        return Err(Failure::bad_input(message).advise("set its program with --worker-program"));
    }
    let bench = Bench::start(args, capacity).await?;
    let (mut rounds, mut efficiencies) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds.max(1) {
        let round = round(&bench, &document, tasks).await?;
        let ideal = tokio::task::spawn_blocking(move || workload.ideal_seconds(tasks)).await;
        efficiencies.extend(ideal.ok().flatten().map(|ideal| ideal / round.seconds));
        rounds.push(round);
    }
    efficiencies.sort_by(f64::total_cmp);
    let bytes_grown = rounds[0].bytes_grown;
    let n = rounds.len();
    rounds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let median = rounds.swap_remove(n / 2);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let per = |n: usize| n as f64;
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    let bytes = bytes_grown as f64;
    Ok(Measured {
        workload: workload.word(),
        store: args.store.word(),
        tasks,
        dependencies,
        rounds: n,
        seconds: median.seconds,
        submit_seconds: median.submit_seconds,
        tasks_per_second: per(tasks) / median.seconds,
        hop_p50_us: median.hops.quantile(0.5),
        hop_p99_us: median.hops.quantile(0.99),
        efficiency: quantile(&efficiencies, 0.5),
        coordinator_bytes_per_task: Some(bytes / per(tasks)),
        processes: median.costs,
    })
}

async fn round(bench: &Bench, document: &str, tasks: usize) -> Result<Round, Failure> {
    let client: &Client = bench.client();
    let before = bench.snapshot();
    let started = Instant::now();
    let submission =
        Submission { file_name: "bench.json".into(), ..Submission::new(document.as_bytes()) };
    let submitted = client.submit(&submission).await?;
    let submit_seconds = started.elapsed().as_secs_f64();
    let mut watch = client.watch_summary(submitted.run);
    let mut state = RunState::Active;
    while let Some(update) = watch.next().await? {
        state = update.run.map_or(state, |run| run.state);
    }
    let seconds = started.elapsed().as_secs_f64();
    let costs = bench.cost_since(&before);
    if state != RunState::Succeeded {
        return Err(Failure::refused(format!("the benchmark's run of {tasks} tasks {state}")));
    }
    let bytes_grown = bench.resident(Role::Coordinator).saturating_sub(before.coordinator_resident);
    let hops = Hops::read(client, submitted.run, document).await?;
    Ok(Round { seconds, submit_seconds, hops, costs, bytes_grown })
}

/// Creates a directory for one benchmark, which is removed at its end.
fn scratch() -> Result<PathBuf, Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("kahn-bench-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir)
        .map_err(|error| Failure::refused(format!("cannot create {}: {error}", dir.display())))?;
    Ok(dir)
}

/// Timeout for starting the parts of a benchmark.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
