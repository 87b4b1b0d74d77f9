//! `kahn graph`: draws a DAG.

use clap::{Args, ValueEnum};
use kahn_spec::graph;
use serde_json::json;

use crate::context::Context;
use crate::dag_file::DagFileArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// The file and its parameters.
    #[command(flatten)]
    file: DagFileArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: GraphFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// Graphviz DOT
    #[default]
    Dot,
    /// A Mermaid diagram, for Markdown
    Mermaid,
    /// An SVG image
    Svg,
}

impl GraphFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Mermaid => "mermaid",
            Self::Svg => "svg",
        }
    }
}

pub(crate) fn run(args: &GraphArgs, context: &Context) -> Result<Exit, Failure> {
    let file = args.file.load(context)?;
    let dag = &file.compiled.dag;
    let text = match args.format {
        GraphFormat::Dot => graph::dot(dag),
        GraphFormat::Mermaid => graph::mermaid(dag),
        GraphFormat::Svg => graph::svg(dag),
    };
    match context.is_json() {
        true => output::json(&json!({ "format": args.format.name(), "text": text }))?,
        false => output::text(&text)?,
    }
    Ok(Exit::Success)
}
