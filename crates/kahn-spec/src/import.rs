//! DAGs from the files of others.

mod wfcommons;

pub use wfcommons::{ImportError, ImportOptions, Imported, wfcommons};
