//! `kahn import`: converts a file of another format to a DAG file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kahn_spec::import::{ImportOptions, wfcommons};
use serde_json::json;

use crate::context::Context;
use crate::dag_file;
use crate::exit::{Exit, Failure};
use crate::output;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The format of the file
    #[arg(value_enum)]
    format: ImportFormat,
    /// The file; `-` reads stdin
    file: PathBuf,
    /// Multiply all run times by this factor
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    time_scale: f64,
    /// Start a `sleep` process for each task instead of waiting inside the worker
    #[arg(long)]
    processes: bool,
    /// Write the DAG file to this path instead of stdout
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ImportFormat {
    /// WfCommons WfFormat 1.5
    Wfcommons,
}

pub(crate) fn run(args: &ImportArgs, context: &Context) -> Result<Exit, Failure> {
    let source = dag_file::read(&args.file)?;
    let options = ImportOptions { time_scale: args.time_scale, starts_processes: args.processes };
    let refuse = |why: String| Failure::bad_input(format!("{}: {why}", args.file.display()));
    let imported = match args.format {
        ImportFormat::Wfcommons => {
            wfcommons(&source, options).map_err(|error| refuse(error.to_string()))?
        }
    };
    // Detect a cycle now instead of when the file is used.
    let dag = imported.dag().map_err(|error| refuse(error.to_string()))?;
    let Some(out) = &args.out else {
        output::bytes(imported.file().as_bytes())?;
        return Ok(Exit::Success);
    };
    std::fs::write(out, imported.file())
        .map_err(|error| Failure::refused(format!("cannot write {}: {error}", out.display())))?;
    if context.is_json() {
        output::json(&json!({
            "file": out,
            "dag": dag.name().as_str(),
            "tasks": dag.n_tasks(),
            "dependencies": dag.n_dependencies(),
        }))?;
    } else {
        output::text(&format!(
            "{}: DAG {} with {} tasks and {} dependencies\n",
            out.display(),
            dag.name(),
            dag.n_tasks(),
            dag.n_dependencies()
        ))?;
    }
    Ok(Exit::Success)
}
