//! The contract of all stores, checked against memory, the embedded store and a real redis-server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, like tests")]
#![expect(clippy::print_stderr, reason = "a series of failovers shows its figures")]

#[path = "contract/cases.rs"]
mod cases;
#[path = "contract/embedded_crash.rs"]
mod embedded_crash;
#[path = "contract/failover.rs"]
mod failover;
#[path = "contract/load.rs"]
mod load;
#[path = "contract/moving.rs"]
mod moving;
#[path = "contract/redis_faults.rs"]
mod redis_faults;
#[path = "contract/redis_tls.rs"]
mod redis_tls;
#[path = "contract/replicas.rs"]
mod replicas;
#[path = "contract/sentinels.rs"]
mod sentinels;
#[path = "contract/support.rs"]
mod support;
