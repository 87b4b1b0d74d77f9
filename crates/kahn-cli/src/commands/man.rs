//! `kahn man`: writes manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages
    dir: PathBuf,
}

pub(crate) fn run(args: &ManArgs) -> Result<Exit, Failure> {
    let dir = args.dir.display();
    let failed = |error| Failure::refused(format!("cannot write manual pages to {dir}: {error}"));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(failed)?;
    output::note(&format!("wrote manual pages to {dir}"));
    Ok(Exit::Success)
}
