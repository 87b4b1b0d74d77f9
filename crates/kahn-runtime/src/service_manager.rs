//! Tells a service manager such as systemd about the state of this process, as `sd_notify(3)` does.
//!
//! The manager names a datagram socket in `NOTIFY_SOCKET`. Without it, nothing is told. If it also
//! expects signs of life (`WATCHDOG_USEC`), they are sent only as long as the process makes progress.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::config::Environment;

/// A connection to the service manager, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Connects to the manager that the environment names.
    #[must_use]
    pub fn of_environment(environment: &Environment) -> Self {
        let variable = |name| environment.get(name);
        let Some(name) = variable("NOTIFY_SOCKET") else {
            return Self { socket: None, watchdog: None };
        };
        let socket = match connect(name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                warn!(socket = name, %error, "cannot tell the service manager anything");
                None
            }
        };
        let is_ours = |pid: &str| pid.parse() == Ok(std::process::id());
        let is_expected = variable("WATCHDOG_PID").is_none_or(is_ours);
        let micros = variable("WATCHDOG_USEC").and_then(|micros| micros.parse().ok());
        let watchdog = micros.filter(|_| is_expected).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// Tells that the process serves.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// Tells that the process has begun to stop.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Sends signs of life as long as `progress` completes in time, until the returned value is
    /// dropped. Does nothing if none are expected.
    #[must_use]
    pub fn watch<F>(&self, progress: impl Fn() -> F + Send + 'static) -> Watchdog
    where
        F: Future<Output = ()> + Send,
    {
        let socket = self.socket.as_ref().and_then(|socket| socket.try_clone().ok());
        let (Some(socket), Some(limit)) = (socket, self.watchdog) else { return Watchdog(None) };
        // Half of the limit, as `sd_watchdog_enabled(3)` recommends.
        let period = limit / 2;
        Watchdog(Some(tokio::spawn(async move {
            loop {
                match timeout(limit, progress()).await {
                    Ok(()) => send(&socket, "WATCHDOG=1"),
                    Err(_) => warn!("no progress within {limit:?}; the service manager may act"),
                }
                sleep(period).await;
            }
        })))
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket {
            send(socket, message);
        }
    }
}

fn send(socket: &UnixDatagram, message: &str) {
    // The manager may be restarting.
    if let Err(error) = socket.send(message.as_bytes()) {
        debug!(message, %error, "cannot tell the service manager");
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address(name)?)?;
    Ok(socket)
}

/// Returns the address of a socket: a path, or an abstract name after `@`.
fn address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}

/// Sends signs of life until it is dropped.
#[derive(Debug)]
pub struct Watchdog(Option<JoinHandle<()>>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn manager(socket: &str, watchdog: Option<&str>, pid: Option<&str>) -> ServiceManager {
        let variables =
            [("NOTIFY_SOCKET", Some(socket)), ("WATCHDOG_USEC", watchdog), ("WATCHDOG_PID", pid)];
        let given = variables.into_iter().filter_map(|(name, value)| Some((name, value?)));
        ServiceManager::of_environment(&Environment::from_pairs(given))
    }

    fn receive(socket: &UnixDatagram) -> io::Result<String> {
        let mut buffer = [0; 64];
        let n = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
    }

    #[tokio::test]
    async fn the_manager_hears_of_the_start_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager(&path.display().to_string(), None, None);
        manager.ready();
        assert_eq!(receive(&socket).unwrap(), "READY=1");
        manager.stopping();
        assert_eq!(receive(&socket).unwrap(), "STOPPING=1");
        assert!(manager.watch(pending).0.is_none(), "no signs of life are expected");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_socket_may_have_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("kahn-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        manager(&format!("@{name}"), None, None).ready();
        assert_eq!(receive(&socket).unwrap(), "READY=1");
    }

    #[tokio::test]
    async fn signs_of_life_end_with_the_progress() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let path = path.display().to_string();
        let pid = std::process::id().to_string();
        let manager = manager(&path, Some("100000"), Some(&pid));
        let alive = manager.watch(|| async {});
        let heard = tokio::task::spawn_blocking(move || {
            let first = receive(&socket).unwrap();
            (first, receive(&socket).unwrap(), socket)
        });
        let (first, second, socket) = heard.await.unwrap();
        assert_eq!([first.as_str(), &second], ["WATCHDOG=1"; 2]);
        drop(alive);
        let _stuck = manager.watch(pending);
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let silent = tokio::task::spawn_blocking(move || {
            // One may have been on its way.
            drop(receive(&socket));
            receive(&socket)
        });
        assert!(silent.await.unwrap().is_err(), "a process without progress showed signs of life");
    }

    #[test]
    fn a_manager_that_watches_another_process_expects_nothing() {
        assert_eq!(manager("/nowhere", Some("100000"), Some("1")).watchdog, None);
        assert!(ServiceManager::of_environment(&Environment::from_pairs([])).socket.is_none());
    }
}
