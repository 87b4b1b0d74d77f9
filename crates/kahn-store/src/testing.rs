//! Real servers of Redis and a fault-injecting proxy, for tests.
//!
//! Everything here panics on failure with advice, because a test cannot recover from it.

mod certificates;
mod cluster;
mod pair;
mod proxy;
mod sentinel;
mod server;
mod wait;

pub use certificates::{Authority, Certificate};
pub use cluster::RedisCluster;
pub use pair::RedisPair;
pub use proxy::{Cut, Proxy};
pub use sentinel::SentinelSetup;
pub use server::RedisServer;
pub use wait::wait_until;
