//! `kahn watch`: follows a run until it ends.

use clap::Args;
use kahn_model::RunRef;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::follow::Follow;
use crate::output;

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
}

pub(crate) async fn run(args: WatchArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    // Fail immediately on an unknown run instead of waiting for it.
    let run = client.get(args.run).await?.id;
    let follow = Follow {
        client: &client,
        run,
        dag: None,
        is_json: context.is_json(),
        prints_events: context.is_json(),
        prints_output: false,
        shutdown: None,
    };
    to_summary(&follow).await
}

/// Waits until the run has ended, prints a summary and returns the exit code.
pub(crate) async fn to_summary(follow: &Follow<'_>) -> Result<Exit, Failure> {
    let Some(ended) = follow.to_end().await? else { return Ok(Exit::Cancelled) };
    let state = ended.state;
    let summary = follow.summarise(ended).await?;
    match follow.is_json {
        true => output::json(&summary.to_json())?,
        false => output::text(&summary.to_text())?,
    }
    Ok(Exit::of_run(state))
}
