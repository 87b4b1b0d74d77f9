//! Resolves names to permitted addresses.
//!
//! The client connects to exactly these addresses, so DNS rebinding between the check and the
//! connection has no effect.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::Guard;

/// The maximum number of addresses of one name that are used.
const ADDRESSES_MAX: usize = 64;

/// Looks up the addresses of names.
#[async_trait]
pub(super) trait Lookup: Send + Sync + 'static {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug)]
pub(super) struct System;

#[async_trait]
impl Lookup for System {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).take(ADDRESSES_MAX).collect())
    }
}

/// A name has no addresses.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be resolved: {reason}")]
pub(super) struct Unresolved {
    name: String,
    reason: String,
}

/// Resolves names and checks their addresses.
#[derive(Debug)]
pub(super) struct Resolver<L> {
    guard: Arc<Guard>,
    lookup: Arc<L>,
}

impl<L: Lookup> Resolver<L> {
    pub(super) fn new(guard: Arc<Guard>, lookup: L) -> Self {
        Self { guard, lookup: Arc::new(lookup) }
    }
}

impl<L: Lookup> Resolve for Resolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, lookup) = (Arc::clone(&self.guard), Arc::clone(&self.lookup));
        Box::pin(async move {
            let name = name.as_str();
            let unresolved = |reason: String| Unresolved { name: name.to_owned(), reason };
            let found =
                lookup.addresses(name).await.map_err(|error| unresolved(error.to_string()))?;
            if found.is_empty() {
                return Err(unresolved("it has no address".into()).into());
            }
            guard.check_resolved(name, &found)?;
            // The client sets the port of the URL.
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Returns a public address first, and then the address of cloud metadata.
    #[derive(Default)]
    struct Rebinding(AtomicU32);

    #[async_trait]
    impl Lookup for Rebinding {
        async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            let is_first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
            let text = if is_first { "1.1.1.1" } else { "169.254.169.254" };
            Ok(vec![text.parse().unwrap()])
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_and_what_was_checked_is_what_is_given() {
        let resolver = Resolver::new(Arc::default(), Rebinding::default());
        let first = resolver.resolve("a.example".parse().unwrap()).await.ok().unwrap();
        assert_eq!(first.collect::<Vec<_>>(), ["1.1.1.1:0".parse().unwrap()]);
        assert_eq!(resolver.lookup.0.load(Ordering::Relaxed), 1);
        let second = resolver.resolve("a.example".parse().unwrap()).await.err().unwrap();
        assert!(second.to_string().contains("169.254.169.254, which is link-local"), "{second}");
    }
}
