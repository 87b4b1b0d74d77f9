//! `kahn submit`: submits a DAG file to the coordinator.

use clap::Args;
use kahn_client::Submission;
use serde_json::json;

use crate::context::Context;
use crate::dag_file::{DagFileArgs, pair};
use crate::exit::{Exit, Failure};
use crate::follow::Follow;
use crate::output;
use crate::render::text;

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The file and its parameters.
    #[command(flatten)]
    file: DagFileArgs,
    /// Wait until the run has ended, and exit with its code
    #[arg(long)]
    wait: bool,
    /// With --wait, print the output of tasks as it comes, each line prefixed by its task
    #[arg(long, requires = "wait")]
    logs: bool,
    /// Return the existing run if one was submitted with the same key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Namespace of the run
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Label of the run, for `kahn list`; can be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
}

pub(crate) async fn run(args: SubmitArgs, context: &Context) -> Result<Exit, Failure> {
    let file = args.file.load(context)?;
    let client = context.client().await?;
    let submission = Submission {
        file_name: file.name.clone(),
        namespace: args.namespace,
        idempotency_key: args.idempotency_key,
        params: file.params.clone(),
        labels: args.labels.into_iter().collect(),
        ..Submission::new(&file.source)
    };
    let submitted = client.submit(&submission).await?;
    let run = submitted.run;
    if !args.wait {
        match context.is_json() {
            true => output::json(&json!({
                "run": run.to_string(),
                "is_repeated": submitted.is_repeated,
                "warnings": submitted.warnings,
            }))?,
            false => output::text(&format!("{run}\n"))?,
        }
    }
    if !context.is_json() {
        // Warnings about the file were already printed when it was checked locally.
        if submitted.is_repeated {
            output::note("the run already existed, with the same idempotency key");
        }
        if args.wait {
            output::note(&format!("run {run} of {}", text::safe(&file.name)));
        }
    }
    if !args.wait {
        return Ok(Exit::Success);
    }
    let follow = Follow {
        client: &client,
        run,
        dag: Some(&file.compiled.dag),
        is_json: context.is_json(),
        prints_events: false,
        prints_output: args.logs,
        shutdown: None,
    };
    super::watch::to_summary(&follow).await
}
