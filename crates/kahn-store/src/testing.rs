//! A real redis-server and a fault-injecting proxy, for tests.
//!
//! Everything here panics on failure with advice, because a test cannot recover from it.

mod proxy;
mod server;

pub use proxy::{Cut, Proxy};
pub use server::RedisServer;
