//! Ports that nobody uses.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system takes ports of outgoing connections, so that none of
/// those can come between finding a port and using it.
const FIRST: u16 = 15_000;
/// Ports for one test process; several may run at one time.
const PER_PROCESS: u16 = 200;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody uses, different on each call.
///
/// # Errors
///
/// When this process has used up its share.
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
