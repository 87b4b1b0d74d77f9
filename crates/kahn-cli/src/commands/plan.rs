//! `kahn plan`: prints the phases, critical path, bounds and expected schedule of a DAG.

use clap::Args;

use crate::context::Context;
use crate::dag_file::DagFileArgs;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::plan::Plan;
use crate::what_if::{self, ClusterArgs};

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The file and its parameters.
    #[command(flatten)]
    file: DagFileArgs,
    /// The hypothetical cluster.
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn run(args: &PlanArgs, context: &Context) -> Result<Exit, Failure> {
    let file = args.file.load(context)?;
    let dag = &file.compiled.dag;
    let cluster = args.cluster.cluster(dag)?;
    let schedule = what_if::simulate(dag, &cluster)?;
    let plan = Plan::new(dag, &cluster, &schedule);
    match context.is_json() {
        true => output::json(&plan.to_json())?,
        false => output::text(&plan.to_text())?,
    }
    Ok(Exit::Success)
}
