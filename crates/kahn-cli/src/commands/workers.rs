//! `kahn workers`: lists workers, and cordons or drains them.

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::worker;

/// Arguments of `workers`.
#[derive(Debug, Args)]
pub(crate) struct WorkersArgs {
    /// The action [default: list]
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the workers that the coordinator has seen; a lost one for an hour
    List,
    /// Stop giving new leases to a worker
    Cordon(WorkerName),
    /// Resume giving leases to a cordoned worker
    Uncordon(WorkerName),
    /// Let a worker finish its leases, then exit
    Drain(WorkerName),
}

#[derive(Debug, Args)]
struct WorkerName {
    /// The worker
    worker: String,
}

pub(crate) async fn run(args: WorkersArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let workers = match args.action.unwrap_or(Action::List) {
        Action::List => client.list_workers().await?,
        Action::Cordon(WorkerName { worker }) => vec![client.cordon(&worker).await?],
        Action::Uncordon(WorkerName { worker }) => vec![client.uncordon(&worker).await?],
        Action::Drain(WorkerName { worker }) => vec![client.drain(&worker).await?],
    };
    match context.is_json() {
        true => output::json_lines(workers.iter().map(worker::worker_json))?,
        false => output::text(&worker::workers(&workers))?,
    }
    Ok(Exit::Success)
}
