//! For tests: documents to import, made up from a seed.

mod families;
mod recording;

pub use families::Family;
