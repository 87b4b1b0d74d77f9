//! Reads and checks DAG files.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use kahn_spec::{Compiled, ParamValue};

use crate::context::Context;
use crate::exit::Failure;
use crate::output;
use crate::render::diagnostics;

/// A DAG file and the values of its parameters.
#[derive(Clone, Debug, Args)]
pub(crate) struct DagFileArgs {
    /// The DAG file, YAML or JSON; `-` reads stdin
    pub file: PathBuf,
    /// Value of a parameter; can be repeated
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = pair)]
    pub params: Vec<(String, String)>,
}

/// Parses `name=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// A valid DAG file.
#[derive(Debug)]
pub(crate) struct DagFile {
    /// Its name in messages.
    pub name: String,
    /// Its contents.
    pub source: Vec<u8>,
    /// The compiled DAG.
    pub compiled: Compiled,
    /// The given parameters.
    pub params: BTreeMap<String, String>,
}

/// Reads a file, or stdin for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::bad_input(format!("cannot read {}: {error}", path.display()));
    if path == Path::new("-") {
        let mut source = Vec::new();
        std::io::stdin().lock().read_to_end(&mut source).map_err(failed)?;
        return Ok(source);
    }
    std::fs::read(path).map_err(failed)
}

impl DagFile {
    /// Checks contents that were already read.
    pub(crate) fn new(
        name: String,
        source: Vec<u8>,
        params: BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let values = params.iter().map(|(k, v)| (k.clone(), ParamValue::Text(v.clone()))).collect();
        let compiled = kahn_spec::compile(&source, &name, &values)
            .map_err(|diagnostics| Failure::DagFile(Box::new(diagnostics)))?;
        Ok(Self { name, source, compiled, params })
    }
}

impl DagFileArgs {
    /// Reads and checks the file. Prints warnings on stderr.
    pub(crate) fn load(&self, context: &Context) -> Result<DagFile, Failure> {
        let source = read(&self.file)?;
        let name = match self.file.as_os_str().to_string_lossy() {
            dash if dash == "-" => "stdin".to_owned(),
            name => name.into_owned(),
        };
        let file = DagFile::new(name, source, self.params.iter().cloned().collect())?;
        if let Some(warnings) = &file.compiled.warnings {
            output::note(diagnostics::lines(warnings, context.is_json()).trim_end());
        }
        Ok(file)
    }
}
