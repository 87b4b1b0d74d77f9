//! Converts between messages and the model: `to_wire` and `from_wire`, with one module per family.
//!
//! Messages are untrusted: `from_wire` never panics, checks everything that the model guarantees
//! and names the invalid field. `from_wire` accepts everything that `to_wire` returns and restores
//! the original value, except that durations above 584 years, which no rule allows, are truncated.

pub mod admission;
pub mod dag;
pub mod ids;
pub mod limits;
pub mod policy;
pub mod profile;
pub mod report;
pub mod resources;
pub mod selector;
pub mod state;
pub mod work;

mod error;
mod span;

pub use error::ConvertError;
