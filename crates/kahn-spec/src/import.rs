//! Imports DAGs from foreign file formats.

mod wfcommons;

pub use wfcommons::{ImportError, ImportOptions, Imported, wfcommons};
