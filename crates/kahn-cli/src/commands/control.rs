//! `kahn cancel`, `pause`, `resume` and `retry`: control a run.

use clap::Args;
use kahn_client::{RetryScope, Run};
use kahn_model::RunRef;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::run::RunJson;
use crate::render::text;

/// The run to control.
#[derive(Debug, Args)]
pub(crate) struct RunArg {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
    /// Reason, shown with the run
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
    /// Retry this task and all its dependents; can be repeated
    #[arg(long, value_name = "TASK", conflicts_with = "only")]
    from: Vec<String>,
    /// Retry only this task; can be repeated
    #[arg(long, value_name = "TASK")]
    only: Vec<String>,
}

pub(crate) async fn cancel(args: CancelArgs, context: &Context) -> Result<Exit, Failure> {
    let run = context.client().await?.cancel(args.run, &args.reason).await?;
    show(context, &run)
}

pub(crate) async fn pause(args: RunArg, context: &Context) -> Result<Exit, Failure> {
    let run = context.client().await?.pause(args.run).await?;
    show(context, &run)
}

pub(crate) async fn resume(args: RunArg, context: &Context) -> Result<Exit, Failure> {
    let run = context.client().await?.resume(args.run).await?;
    show(context, &run)
}

pub(crate) async fn retry(args: RetryArgs, context: &Context) -> Result<Exit, Failure> {
    let scope = match (args.from.is_empty(), args.only.is_empty()) {
        (false, _) => RetryScope::From(args.from),
        (true, false) => RetryScope::Only(args.only),
        (true, true) => RetryScope::Failed,
    };
    let run = context.client().await?.retry(args.run, &scope).await?;
    show(context, &run)
}

fn show(context: &Context, run: &Run) -> Result<Exit, Failure> {
    match context.is_json() {
        true => output::json(&RunJson::of(run, None))?,
        false => {
            let (state, tasks) = (text::run_state(run.state), text::counts(&run.tasks));
            output::text(&format!("run {} {state}: {tasks}\n", run.id))?;
        }
    }
    Ok(Exit::Success)
}
