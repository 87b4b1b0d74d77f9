//! The commands, one file each, and their dispatch.

pub(crate) mod run;

pub(crate) mod autoscaler;
pub(crate) mod coordinator;
pub(crate) mod worker;

pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pools;
pub(crate) mod submit;
pub(crate) mod watch;
pub(crate) mod workers;

pub(crate) mod backup;
mod backup_place;
pub(crate) mod restore;

pub(crate) mod graph;
pub(crate) mod import;
pub(crate) mod plan;
pub(crate) mod schema;
pub(crate) mod simulate;
pub(crate) mod validate;

pub(crate) mod bench;
pub(crate) mod certs;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod man;

use crate::args::Command;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Executes a command. The futures are boxed, because the combined future would otherwise be as
/// large as the largest of them.
pub(crate) async fn carry_out(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => Box::pin(run::run(args, context)).await,
        Command::Coordinator(args) => Box::pin(coordinator::run(args, context)).await,
        Command::Worker(args) => Box::pin(worker::run(args, context)).await,
        Command::Autoscaler(args) => Box::pin(autoscaler::run(args, context)).await,
        Command::Submit(args) => Box::pin(submit::run(args, context)).await,
        Command::List(args) => Box::pin(list::run(args, context)).await,
        Command::Get(args) => Box::pin(get::run(args, context)).await,
        Command::Watch(args) => Box::pin(watch::run(args, context)).await,
        Command::Logs(args) => Box::pin(logs::run(args, context)).await,
        Command::Events(args) => Box::pin(events::run(args, context)).await,
        Command::Cancel(args) => Box::pin(control::cancel(args, context)).await,
        Command::Pause(args) => Box::pin(control::pause(args, context)).await,
        Command::Resume(args) => Box::pin(control::resume(args, context)).await,
        Command::Retry(args) => Box::pin(control::retry(args, context)).await,
        Command::Explain(args) => Box::pin(explain::run(args, context)).await,
        Command::Workers(args) => Box::pin(workers::run(args, context)).await,
        Command::Pools => Box::pin(pools::run(context)).await,
        Command::Backup(args) => Box::pin(backup::run(args, context)).await,
        Command::Restore(args) => Box::pin(restore::run(args, context)).await,
        Command::Validate(args) => validate::run(&args, context),
        Command::Plan(args) => plan::run(&args, context),
        Command::Graph(args) => graph::run(&args, context),
        Command::Schema => schema::run(),
        Command::Simulate(args) => simulate::run(&args, context),
        Command::Import(args) => import::run(&args, context),
        Command::Bench(args) => Box::pin(bench::carry_out(args, context)).await,
        Command::Certs(args) => certs::run(args, context),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Doctor => Box::pin(doctor::run(context)).await,
        Command::Config(args) => config::run(&args, context),
    }
}
