//! Tests of the built command as a process.

#[path = "commands/bench.rs"]
mod bench;
#[path = "commands/cluster.rs"]
mod cluster;
#[path = "commands/files.rs"]
mod files;
#[path = "commands/logs.rs"]
mod logs;
#[path = "commands/metrics.rs"]
mod metrics;
#[path = "commands/runs.rs"]
mod runs;
#[path = "commands/support.rs"]
mod support;
