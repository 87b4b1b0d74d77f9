//! The output of tasks: split into lines, printed, and followed for a whole run.

mod lines;
mod printer;
mod run_output;

pub(crate) use lines::last_lines;
pub(crate) use printer::{Printer, Style};
pub(crate) use run_output::{Piece, RunOutput};
