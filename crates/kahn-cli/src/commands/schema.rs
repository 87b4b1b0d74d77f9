//! `kahn schema`: prints the JSON Schema of the DAG file, for editors.

use std::io;

use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) fn run() -> Result<Exit, Failure> {
    let mut text = serde_json::to_vec_pretty(&kahn_spec::schema()).map_err(io::Error::from)?;
    text.push(b'\n');
    output::bytes(&text)?;
    Ok(Exit::Success)
}
