//! A real redis-server and a faulty network, for tests.
//!
//! Everything here panics on failure, with what to do about it: a test has no other use for it.

mod proxy;
mod server;

pub use proxy::{Cut, Proxy};
pub use server::RedisServer;
