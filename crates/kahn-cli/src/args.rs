//! The command line: what can be asked for.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::context::Globals;

/// Runs DAGs of tasks, on this machine or on a cluster of workers.
#[derive(Debug, Parser)]
#[command(name = "kahn", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a DAG file on this machine, with no other service
    Run(commands::run::RunArgs),
    /// Serve as the coordinator of a cluster
    Coordinator(commands::coordinator::CoordinatorArgs),
    /// Serve as a worker of a cluster
    Worker(commands::worker::WorkerArgs),
    /// Submit a DAG file to the coordinator
    Submit(commands::submit::SubmitArgs),
    /// List runs, the youngest first
    List(commands::list::ListArgs),
    /// Show a run, and its tasks
    Get(commands::get::GetArgs),
    /// Follow a run until it ends
    Watch(commands::watch::WatchArgs),
    /// Show what a task printed
    Logs(commands::logs::LogsArgs),
    /// Show what happened in a run
    Events(commands::events::EventsArgs),
    /// Call a run off
    Cancel(commands::control::CancelArgs),
    /// Start nothing new in a run
    Pause(commands::control::RunArg),
    /// Go on with a paused run
    Resume(commands::control::RunArg),
    /// Run tasks of a finished run again
    Retry(commands::control::RetryArgs),
    /// Say why a task is where it is, and what would let it go on
    Explain(commands::explain::ExplainArgs),
    /// List workers, or keep work from them
    Workers(commands::workers::WorkersArgs),
    /// Check a DAG file
    Validate(commands::validate::ValidateArgs),
    /// Show phases, critical path, bounds and the expected course of a DAG
    Plan(commands::plan::PlanArgs),
    /// Draw a DAG
    Graph(commands::graph::GraphArgs),
    /// Print the JSON Schema of the DAG file
    Schema,
    /// Simulate a DAG on a cluster that need not exist
    Simulate(commands::simulate::SimulateArgs),
    /// Make a DAG file of a file of another format
    Import(commands::import::ImportArgs),
    /// Measure how fast this machine runs DAGs
    Bench(commands::bench::BenchArgs),
    /// Print a script that completes commands in a shell
    Completions(commands::completions::CompletionsArgs),
    /// Check the setup on this machine
    Doctor,
    /// Show the configuration
    Config(commands::config::ConfigArgs),
}
