//! Who this coordinator is to others: a nonce, and the address at which they reach it.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use kahn_store::{Claim, Owner};

use super::{Listener, StartError, open};
use crate::config::Config;

/// The nonce of this process, kept for the next one with the same data directory. The file is
/// locked, so that no two coordinators use one directory.
#[derive(Debug)]
pub(super) struct Identity {
    nonce: u64,
    earlier: Option<u64>,
    file: File,
}

impl Identity {
    /// Draws a nonce for this process. Only coordinators that share a store need to be told apart.
    pub(super) fn of(config: &Config) -> Result<Option<Self>, StartError> {
        if !config.store.is_shared() {
            return Ok(None);
        }
        let path = config.data_dir.join("nonce");
        let failed = |source| StartError::Io { what: path.display().to_string(), source };
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StartError::InUse(config.data_dir.display().to_string()),
            TryLockError::Error(source) => failed(source),
        })?;
        let mut text = String::new();
        // A file that is not text, or no nonce, was damaged. Without it, only a lease is waited for.
        let earlier = file.read_to_string(&mut text).ok();
        let earlier = earlier.and_then(|_| u64::from_str_radix(text.trim(), 16).ok());
        Ok(Some(Self { nonce: nonce()?, earlier, file }))
    }

    /// Keeps the nonce for the next process. Until then, that of the earlier process is kept, which
    /// may still hold a lease.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{:016x}", self.nonce)
    }
}

/// Returns who takes part in the election, and what it may claim at first: the lease of its earlier
/// process, which has ended.
pub(super) fn candidacy(
    config: &Config,
    listener: &Listener,
    identity: Option<&Identity>,
) -> Result<(Owner, Claim), StartError> {
    let Some(identity) = identity else {
        return Ok((Owner::without_address(nonce()?), Claim::Force));
    };
    let claim = identity.earlier.map_or(Claim::IfFree, Claim::Succeeding);
    let scheme = if listener.is_secure() { "https" } else { "http" };
    let address = match (&config.advertise, listener.address()) {
        (Some(address), _) => address.clone(),
        (None, Some(address)) => format!("{scheme}://{}", reachable(address)),
        (None, None) => String::new(),
    };
    Ok((Owner { nonce: identity.nonce, address }, claim))
}

/// Returns the address at which others reach a socket that may listen on all interfaces.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(outgoing_ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    address
}

/// Returns the address of the interface with the default route. Nothing is sent: connecting a UDP
/// socket only selects a route.
fn outgoing_ip() -> Option<IpAddr> {
    // An address reserved for documentation, RFC 5737.
    const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn nonce() -> Result<u64, StartError> {
    open::random().map(u64::from_le_bytes)
}
