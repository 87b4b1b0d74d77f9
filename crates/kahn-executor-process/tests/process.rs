//! Tests of the process executor with real processes.

#[path = "process/environment.rs"]
mod environment;
#[path = "process/limits.rs"]
mod limits;
#[path = "process/processes.rs"]
mod processes;
#[path = "process/support.rs"]
mod support;
#[path = "process/survivors.rs"]
mod survivors;
