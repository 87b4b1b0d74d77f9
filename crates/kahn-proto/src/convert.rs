//! Between messages and the model: `to_wire` and `from_wire`, a module for each family.
//!
//! Every message is taken for hostile: `from_wire` is total, checks whatever the model promises
//! and names the field that breaks it. Whatever `to_wire` gives, `from_wire` takes back as it was
//! (spans of time above 584 years, which no rule allows, are cut).

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
