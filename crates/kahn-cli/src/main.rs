//! The `kahn` command: runs DAGs locally, serves as coordinator or worker, and acts as a client of
//! a coordinator.

mod args;
mod commands;
mod context;
mod dag_file;
mod exit;
mod follow;
mod local;
mod logs;
mod output;
mod render;
mod what_if;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long remaining background tasks may run after a command has ended.
const LINGER: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::from_process(cli.globals);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::refused(format!("cannot create threads: {error}"));
            return failure.report(context.is_json()).into();
        }
    };
    let done = runtime.block_on(commands::carry_out(cli.command, &context));
    runtime.shutdown_timeout(LINGER);
    let exit: Exit = done.unwrap_or_else(|failure| failure.report(context.is_json()));
    exit.into()
}
