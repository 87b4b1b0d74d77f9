//! What an operator does with the helm chart, in a real cluster: installs, upgrades, rolls back,
//! breaks and removes a release, while tasks run.

mod pods;
mod release;
mod report;
mod scaling;
mod scenarios;

pub use report::Report;
pub use scenarios::{Group, run};
