//! `kahn validate`: checks a DAG file.

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::dag_file::DagFileArgs;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::text;

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The file and its parameters.
    #[command(flatten)]
    file: DagFileArgs,
}

pub(crate) fn run(args: &ValidateArgs, context: &Context) -> Result<Exit, Failure> {
    let file = args.file.load(context)?;
    let dag = &file.compiled.dag;
    let n_warnings = file.compiled.warnings.as_ref().map_or(0, |warnings| warnings.items.len());
    if context.is_json() {
        output::json(&json!({
            "file": file.name,
            "dag": dag.name().as_str(),
            "is_valid": true,
            "tasks": dag.n_tasks(),
            "dependencies": dag.n_dependencies(),
            "warnings": n_warnings,
        }))?;
        return Ok(Exit::Success);
    }
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let dependencies = match dag.n_dependencies() {
        1 => "1 dependency".to_owned(),
        n => format!("{n} dependencies"),
    };
    output::text(&format!(
        "{} is valid: DAG {} with {} and {dependencies}\n",
        text::safe(&file.name),
        dag.name(),
        text::plural(count(dag.n_tasks()), "task"),
    ))?;
    Ok(Exit::Success)
}
