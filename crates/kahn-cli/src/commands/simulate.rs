//! `kahn simulate`: simulates a DAG on a hypothetical cluster.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use kahn_model::Dag;
use kahn_sim::gantt;
use serde_json::json;

use crate::context::Context;
use crate::dag_file::DagFileArgs;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::json::seconds;
use crate::render::{plan, text};
use crate::what_if::{self, ClusterArgs, SimulatedSchedule};

/// Width of the chart in columns, suitable for most terminals.
const CHART_COLUMNS: usize = 100;

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The file and its parameters.
    #[command(flatten)]
    file: DagFileArgs,
    /// The hypothetical cluster.
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Draw a Gantt chart of the tasks
    #[arg(long, value_enum, value_name = "FORMAT")]
    gantt: Option<GanttFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GanttFormat {
    /// A text chart
    Text,
    /// An SVG image
    Svg,
}

pub(crate) fn run(args: &SimulateArgs, context: &Context) -> Result<Exit, Failure> {
    let file = args.file.load(context)?;
    let dag = &file.compiled.dag;
    let cluster = args.cluster.cluster(dag)?;
    let schedule = what_if::simulate(dag, &cluster)?;
    let bound = cluster.lower_bound(dag);
    if context.is_json() {
        let chart = args.gantt.map(|format| draw(format, dag, &schedule));
        output::json(&json!({
            "dag": dag.name().as_str(),
            "tasks": dag.n_tasks(),
            "workers": cluster.workers,
            "capacity": cluster.named.to_string(),
            "makespan_seconds": seconds(schedule.answer.makespan),
            "lower_bound_seconds": seconds(bound.larger()),
            "critical_path_seconds": seconds(bound.chain),
            "area_seconds": seconds(bound.area),
            "utilisation": schedule.answer.utilisation,
            "waited_seconds": seconds(schedule.answer.waits.total),
            "placement": plan::placement_json(dag, &schedule),
            "gantt": chart,
        }))?;
        return Ok(Exit::Success);
    }
    if args.gantt == Some(GanttFormat::Svg) {
        output::text(&draw(GanttFormat::Svg, dag, &schedule))?;
        return Ok(Exit::Success);
    }
    let workers = text::plural(u64::from(cluster.workers), "worker");
    let mut out = format!("{} on {workers} with {} each\n", dag.name(), cluster.named);
    let _ = writeln!(out, "  makespan    {}", text::span(schedule.answer.makespan));
    let _ = writeln!(
        out,
        "  lower bound {} (critical path {}, area {})",
        text::span(bound.larger()),
        text::span(bound.chain),
        text::span(bound.area)
    );
    let _ = writeln!(out, "  utilisation {:.0}%", schedule.answer.utilisation * 100.0);
    if args.gantt == Some(GanttFormat::Text) {
        out.push('\n');
        out.push_str(&draw(GanttFormat::Text, dag, &schedule));
    }
    output::text(&out)?;
    Ok(Exit::Success)
}

fn draw(format: GanttFormat, dag: &Dag, schedule: &SimulatedSchedule) -> String {
    match format {
        GanttFormat::Text => gantt::text(dag, &schedule.question, &schedule.answer, CHART_COLUMNS),
        GanttFormat::Svg => gantt::svg(dag, &schedule.question, &schedule.answer),
    }
}
