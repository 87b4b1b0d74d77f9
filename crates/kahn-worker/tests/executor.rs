//! The executors, with real processes.

#[path = "executor/limits.rs"]
mod limits;
#[path = "executor/processes.rs"]
mod processes;
#[path = "executor/support.rs"]
mod support;
#[path = "executor/surroundings.rs"]
mod surroundings;
#[path = "executor/survivors.rs"]
mod survivors;
