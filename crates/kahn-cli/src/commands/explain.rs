//! `kahn explain`: explains the state of a task and what it is waiting for.

use clap::Args;
use kahn_model::RunRef;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::local::Reader;
use crate::output;
use crate::render::run;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
    /// The task
    task: String,
}

pub(crate) async fn run(args: ExplainArgs, context: &Context) -> Result<Exit, Failure> {
    let reader = Reader::of_run(context, args.run).await?;
    let answer = reader.client.explain(reader.run, &args.task).await;
    let run = reader.run.to_string();
    reader.close().await;
    let why = answer?;
    match context.is_json() {
        true => output::json(&run::explanation_json(&run, &args.task, &why))?,
        false => output::text(&run::explanation(&args.task, &why))?,
    }
    Ok(Exit::Success)
}
