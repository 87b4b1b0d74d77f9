//! Allocates unused ports.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ephemeral port range, so that outgoing connections cannot take a port between its
/// allocation and its use.
const FIRST: u16 = 15_000;
/// The number of ports per test process; several may run concurrently.
const PER_PROCESS: u16 = 200;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Returns an unused port, different on each call.
///
/// # Errors
///
/// Returns an error if this process has used all its ports.
pub fn free_port() -> anyhow::Result<u16> {
    let share = u16::try_from(std::process::id() % 80)? * PER_PROCESS;
    loop {
        let at = NEXT.fetch_add(1, Ordering::Relaxed);
        anyhow::ensure!(at < PER_PROCESS, "more than {PER_PROCESS} ports are asked for");
        let port = FIRST + share + at;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}
