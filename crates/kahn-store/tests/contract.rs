//! The contract of all stores, checked against memory, the embedded store and a real redis-server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, like tests")]

#[path = "contract/cases.rs"]
mod cases;
#[path = "contract/embedded_crash.rs"]
mod embedded_crash;
#[path = "contract/redis_faults.rs"]
mod redis_faults;
#[path = "contract/support.rs"]
mod support;
