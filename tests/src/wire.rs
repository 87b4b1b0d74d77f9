//! A TCP proxy whose connections can be slow, silent or cut.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The state of a [`Wire`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Everything passes at once.
    #[default]
    Open,
    /// Everything passes after this delay.
    Slow(Duration),
    /// Nothing passes, and connections stay open.
    Silent,
    /// All connections are closed, and so are new ones.
    Cut,
}

/// A proxy in front of a port of this host.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    condition: Condition,
    /// Both ends of each connection.
    open: Vec<TcpStream>,
    is_dropped: bool,
}

impl Wire {
    /// Starts a proxy in front of `target`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no free port.
    pub fn to(target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if of_thread.lock().is_dropped {
                    return;
                }
                // A connection that fails is closed.
                drop(client.and_then(|client| carry(&of_thread, client, target)));
            }
        });
        Ok(Self { port, shared })
    }

    /// Returns the port of the proxy.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the state of all connections.
    pub fn set(&self, condition: Condition) {
        let mut state = self.shared.lock();
        state.condition = condition;
        if condition == Condition::Cut {
            close(&mut state.open);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.set(Condition::Cut);
        self.shared.lock().is_dropped = true;
        // Wakes up the thread that accepts connections.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until data may pass. Returns `false` if the connection is cut.
    fn wait_to_pass(&self) -> bool {
        let mut state = self.lock();
        if let Condition::Slow(delay) = state.condition {
            let is_slow = |state: &mut State| matches!(state.condition, Condition::Slow(_));
            let waited = self.changed.wait_timeout_while(state, delay, is_slow);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_silent = |state: &mut State| state.condition == Condition::Silent;
        let waited = self.changed.wait_while(state, is_silent);
        waited.unwrap_or_else(PoisonError::into_inner).condition != Condition::Cut
    }
}

/// Connects a client to `target`, and copies in both directions in the background.
fn carry(shared: &Arc<Shared>, client: TcpStream, target: u16) -> std::io::Result<()> {
    if shared.lock().condition == Condition::Cut {
        return Ok(());
    }
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        let registered = stream.try_clone()?;
        shared.lock().open.push(registered);
    }
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let shared = Arc::clone(shared);
        thread::spawn(move || copy(&shared, from, to));
    }
    Ok(())
}

fn copy(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !shared.wait_to_pass() || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // Both threads end with the connection. It may be closed already.
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    shared.lock().open.retain(|stream| stream.peer_addr().is_ok());
}

fn close(open: &mut Vec<TcpStream>) {
    for stream in open.drain(..) {
        // It may be closed already.
        drop(stream.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        stream.write_all(&byte).unwrap();
                    }
                });
            }
        });
        port
    }

    fn exchange(stream: &mut TcpStream, timeout: Duration) -> std::io::Result<()> {
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    }

    #[test]
    fn a_wire_passes_holds_and_cuts_what_goes_through_it() {
        let wire = Wire::to(echo()).unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, wire.port()));
        let mut stream = connect().unwrap();
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(10));
        exchange(&mut stream, long).unwrap();
        wire.set(Condition::Slow(Duration::from_millis(30)));
        exchange(&mut stream, long).unwrap();
        wire.set(Condition::Silent);
        assert!(exchange(&mut stream, short).is_err());
        wire.set(Condition::Open);
        stream.set_read_timeout(Some(long)).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        wire.set(Condition::Cut);
        assert!(exchange(&mut stream, long).is_err());
        let refused = connect().and_then(|mut stream| exchange(&mut stream, long));
        assert!(refused.is_err());
    }
}
