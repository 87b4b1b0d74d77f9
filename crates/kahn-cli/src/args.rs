//! The command-line interface.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::context::Globals;

/// Runs DAGs of tasks, locally or on a cluster of workers.
#[derive(Debug, Parser)]
#[command(name = "kahn", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a DAG file on this host, without any other service
    Run(commands::run::RunArgs),
    /// Serve as the coordinator of a cluster
    Coordinator(commands::coordinator::CoordinatorArgs),
    /// Serve as a worker of a cluster
    Worker(commands::worker::WorkerArgs),
    /// Tell Kubernetes how many workers a cluster needs
    Autoscaler(commands::autoscaler::AutoscalerArgs),
    /// Submit a DAG file to the coordinator
    Submit(commands::submit::SubmitArgs),
    /// List runs, newest first
    List(commands::list::ListArgs),
    /// Show a run and its tasks
    Get(commands::get::GetArgs),
    /// Follow a run until it ends
    Watch(commands::watch::WatchArgs),
    /// Show the output of tasks
    Logs(commands::logs::LogsArgs),
    /// Show the events of a run
    Events(commands::events::EventsArgs),
    /// Cancel a run
    Cancel(commands::control::CancelArgs),
    /// Pause a run: start no more tasks
    Pause(commands::control::RunArg),
    /// Resume a paused run
    Resume(commands::control::RunArg),
    /// Retry tasks of a finished run
    Retry(commands::control::RetryArgs),
    /// Explain the state of a task and what it is waiting for
    Explain(commands::explain::ExplainArgs),
    /// List, cordon or drain workers
    Workers(commands::workers::WorkersArgs),
    /// List the pools of workers, with the number of workers that each needs
    Pools,
    /// Copy the state of a running cluster to a directory or a bucket
    Backup(commands::backup::BackupArgs),
    /// Check a backup, or restore it into an empty store
    Restore(commands::restore::RestoreArgs),
    /// Check a DAG file
    Validate(commands::validate::ValidateArgs),
    /// Show the phases, critical path, bounds and expected schedule of a DAG
    Plan(commands::plan::PlanArgs),
    /// Draw a DAG
    Graph(commands::graph::GraphArgs),
    /// Print the JSON Schema of the DAG file
    Schema,
    /// Simulate a DAG on a hypothetical cluster
    Simulate(commands::simulate::SimulateArgs),
    /// Convert a file of another format to a DAG file
    Import(commands::import::ImportArgs),
    /// Measure how fast this host runs DAGs
    Bench(commands::bench::BenchArgs),
    /// Print a shell completion script
    Completions(commands::completions::CompletionsArgs),
    /// Write manual pages, one for each command
    Man(commands::man::ManArgs),
    /// Make certificates for a trial of TLS
    Certs(commands::certs::CertsArgs),
    /// Check the setup on this host
    Doctor,
    /// Show the configuration
    Config(commands::config::ConfigArgs),
}
