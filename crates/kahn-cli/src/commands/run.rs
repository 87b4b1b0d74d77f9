//! `kahn run`: runs a DAG file on this host, without any other service.

use std::path::PathBuf;

use clap::Args;
use kahn_client::{RunFilter, Submission};
use kahn_model::{RunId, RunRef, RunState};
use kahn_runtime::config;
use kahn_runtime::shutdown::Shutdown;

use crate::context::Context;
use crate::dag_file::{DagFile, DagFileArgs, pair};
use crate::exit::{Exit, Failure};
use crate::follow::Follow;
use crate::local::{self, Cluster, Durability, RunDir, StoreKind, WorkerSettings};
use crate::output;
use crate::render::diagnostics;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The DAG file, YAML or JSON; `-` reads stdin
    #[arg(required_unless_present = "resume")]
    file: Option<PathBuf>,
    /// Value of a parameter; can be repeated
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// Resume a killed run: the given one, or the newest that has not ended
    #[arg(long, value_name = "RUN", num_args = 0..=1, conflicts_with_all = ["params", "store"])]
    resume: Option<Option<RunRef>>,
    /// Total CPUs of running tasks [default: those of this host]
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// Total resources of running tasks, such as cpu=2,memory=4Gi [default: those of this host]
    #[arg(long, value_name = "AMOUNTS", conflicts_with = "cpus")]
    capacity: Option<String>,
    /// Print the output of tasks as it comes, each line prefixed by its task
    #[arg(long)]
    logs: bool,
    /// Store for the state of the run
    #[arg(long, value_enum, default_value_t)]
    store: StoreKind,
    /// Crash that acknowledged changes survive
    #[arg(long, value_enum, default_value_t)]
    durability: Durability,
}

/// A run to be started or resumed.
struct Prepared {
    dir: RunDir,
    file: DagFile,
    is_new: bool,
}

pub(crate) async fn run(args: RunArgs, context: &Context) -> Result<Exit, Failure> {
    let telemetry = context.telemetry("warn")?;
    let shutdown = context.shutdown()?;
    let mut prepared = prepare(&args, context)?;
    let mut cluster =
        Cluster::open(prepared.dir.path(), args.store, args.durability, telemetry.traces()).await?;
    let done = carry_out(&args, context, &mut prepared, &mut cluster, &shutdown).await;
    if !matches!(done, Ok(None)) {
        cluster.stop().await;
    }
    if args.store == StoreKind::Memory {
        prepared.dir.remove();
    }
    context.flush(telemetry).await;
    // `None` means that an immediate stop was requested.
    Ok(done?.unwrap_or(Exit::Cancelled))
}

fn prepare(args: &RunArgs, context: &Context) -> Result<Prepared, Failure> {
    let root = local::root(&context.data_dir());
    let Some(resume) = args.resume else {
        let file = args.file.clone().unwrap_or_default();
        let loaded =
            DagFileArgs { file: file.clone(), params: args.params.clone() }.load(context)?;
        local::prune(&root);
        let dir = RunDir::create(&root, &file, &loaded)?;
        return Ok(Prepared { dir, file: loaded, is_new: true });
    };
    let dir = match resume {
        Some(run) => match local::find(&root, run)? {
            Some((path, _)) => RunDir::open(&path)?,
            None => return Err(Failure::bad_input(format!("no run {run} in {}", root.display()))),
        },
        None => local::unfinished(&root, args.file.as_deref()).ok_or_else(|| {
            Failure::bad_input(format!("no run to resume in {}", root.display()))
                .advise("`kahn list` shows all runs; start a new one without --resume")
        })?,
    };
    let file = dir.file()?;
    Ok(Prepared { dir, file, is_new: false })
}

/// Runs until the run has ended. Returns `None` if an immediate stop was requested.
async fn carry_out(
    args: &RunArgs,
    context: &Context,
    prepared: &mut Prepared,
    cluster: &mut Cluster,
    shutdown: &Shutdown,
) -> Result<Option<Exit>, Failure> {
    let Prepared { dir, file, is_new } = prepared;
    cluster.add_worker(dir.path(), worker_settings(args, context)?)?;
    if let Some(lacking) = cluster.offer().and_then(|offer| local::shortages(file, offer)) {
        output::note(diagnostics::lines(&lacking, context.is_json()).trim_end());
    }
    let run = match is_new {
        true => submit(dir, file, cluster).await?,
        false => find_run(dir, cluster).await?,
    };
    dir.record.run = Some(run.to_string());
    dir.save()?;
    if !context.is_json() {
        let word = if *is_new { "run" } else { "resuming run" };
        output::note(&format!("{word} {run}"));
    }
    let client = cluster.client.clone();
    let follow = Follow {
        client: &client,
        run,
        dag: Some(&file.compiled.dag),
        is_json: context.is_json(),
        prints_events: false,
        prints_output: args.logs,
        shutdown: Some(shutdown),
    };
    let ended = tokio::select! {
        ended = follow.to_end() => ended?,
        () = cluster.ended() => return Err(store_failed(run)),
    };
    let Some(ended) = ended else { return Ok(None) };
    let state = ended.state;
    dir.record.state = Some(state.as_str().to_owned());
    dir.save()?;
    let summary = follow.summarise(ended).await?;
    match context.is_json() {
        true => output::json(&summary.to_json())?,
        false => output::text(&summary.to_text())?,
    }
    if state == RunState::Failed && !context.is_json() && args.store == StoreKind::Embedded {
        output::note(&format!("see `kahn logs {run} TASK` and `kahn events {run}`"));
    }
    Ok(Some(Exit::of_run(state)))
}

async fn submit(dir: &RunDir, file: &DagFile, cluster: &Cluster) -> Result<RunId, Failure> {
    let submission = Submission {
        file_name: file.name.clone(),
        idempotency_key: Some(dir.record.key.clone()),
        params: file.params.clone(),
        ..Submission::new(&file.source)
    };
    Ok(cluster.client.submit(&submission).await?.run)
}

/// Returns the run of a directory, even if it was killed before its ID was recorded.
async fn find_run(dir: &RunDir, cluster: &Cluster) -> Result<RunId, Failure> {
    if let Some(run) = dir.record.run_id() {
        return Ok(run);
    }
    let page = cluster.client.list(&RunFilter::default(), 1, None).await?;
    page.items.first().map(|run| run.id).ok_or_else(|| {
        Failure::bad_input("the run was killed before it was submitted")
            .advise("start a new run without --resume")
    })
}

fn worker_settings(args: &RunArgs, context: &Context) -> Result<WorkerSettings, Failure> {
    let mut config: kahn_worker::Config = config::load("worker", &context.sources())?;
    let cpus = args.cpus.as_ref().map(|cpus| format!("cpu={cpus}"));
    if let Some(capacity) = args.capacity.clone().or(cpus) {
        config.capacity = Some(capacity);
    }
    Ok(WorkerSettings { config, environment: std::env::vars_os().collect() })
}

fn store_failed(run: RunId) -> Failure {
    Failure::refused("the state of the run could not be stored; see the log lines above")
        .advise(format!("fix the problem, then resume with `kahn run --resume {run}`"))
}
