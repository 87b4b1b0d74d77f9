//! `kahn list`: lists runs, newest first.

use clap::Args;
use kahn_client::{Run, RunFilter};
use kahn_model::RunState;
use serde_json::json;

use crate::context::Context;
use crate::dag_file::pair;
use crate::exit::{Exit, Failure};
use crate::local::{self, Record};
use crate::output;
use crate::render::run::{self, RunJson};
use crate::render::table::table;
use crate::render::text;

const PAGE_MAX: u32 = 1000;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only runs of this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only runs in this state; can be repeated
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<RunState>,
    /// Only runs of this DAG
    #[arg(long, value_name = "NAME")]
    dag: Option<String>,
    /// Only runs with this label; can be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Maximum number of runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
}

pub(crate) async fn run(args: ListArgs, context: &Context) -> Result<Exit, Failure> {
    let client = match context.client().await {
        Ok(client) => client,
        Err(failure) => return list_local(&args, context, failure),
    };
    let filter = RunFilter {
        namespace: args.namespace,
        states: args.states,
        labels: args.labels.into_iter().collect(),
        dag: args.dag,
    };
    let mut runs: Vec<Run> = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let n_found = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let left = args.limit.saturating_sub(n_found).min(PAGE_MAX);
        if left == 0 {
            break;
        }
        let found = client.list(&filter, left, page.as_deref()).await?;
        runs.extend(found.items);
        page = found.next;
        if page.is_none() {
            break;
        }
    }
    match context.is_json() {
        true => output::json_lines(runs.iter().map(|run| RunJson::of(run, None)))?,
        false => output::text(&run::list(&runs))?,
    }
    Ok(Exit::Success)
}

/// Lists the runs of `kahn run` if no coordinator is reachable and none was given explicitly.
fn list_local(args: &ListArgs, context: &Context, failure: Failure) -> Result<Exit, Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let is_wanted = |record: &Record| {
        let state = record.state.as_deref().unwrap_or("active");
        (args.states.is_empty() || args.states.iter().any(|wanted| wanted.as_str() == state))
            && args.dag.as_ref().is_none_or(|dag| *dag == record.dag)
    };
    let all = local::all(&local::root(&context.data_dir()));
    if context.given_url().is_some() || all.is_empty() {
        return Err(failure);
    }
    let records: Vec<Record> = all
        .into_iter()
        .map(|(_, record)| record)
        .filter(|record| record.run.is_some() && is_wanted(record))
        .take(limit)
        .collect();
    if context.is_json() {
        let line = |record: &Record| {
            let state = record.state.as_deref().unwrap_or("active");
            json!({ "run": record.run, "dag": record.dag, "state": state, "file": record.file })
        };
        output::json_lines(records.iter().map(line))?;
        return Ok(Exit::Success);
    }
    output::note("no coordinator; listing the runs of `kahn run` on this host");
    let rows = records.into_iter().map(|record| {
        [
            record.run.unwrap_or_default(),
            text::safe(&record.dag),
            record.state.unwrap_or_else(|| "active".to_owned()),
            text::safe(&record.file.display().to_string()),
        ]
    });
    output::text(&table(["RUN", "DAG", "STATE", "FILE"], rows.collect()))?;
    Ok(Exit::Success)
}
