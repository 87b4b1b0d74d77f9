//! Restricts the addresses that requests may reach, independently of host names.
//!
//! The URL of a task, or a redirect, must not lead into the worker's network, such as to cloud
//! metadata, to the store, or to loopback services. Therefore the address of every connection is
//! checked, and not the name.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::ranges::{embedded, forbidden};

/// An exception for a destination that is not on the public internet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Allowed {
    /// All addresses of a network, written as `10.0.0.0/8` or as a single address.
    Network(IpNet),
    /// All addresses of this host name, in lower case.
    Host(Box<str>),
}

/// A string that is neither a network nor a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network like `10.0.0.0/8`, an address or a host name")]
pub struct NotAllowed(String);

impl FromStr for Allowed {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let name = plain(text);
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        // URL parsers treat a name whose last label is a number as an address.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().next().is_none_or(|b| b.is_ascii_digit());
        if name.len() > 253 || is_number || !name.bytes().all(is_letter) {
            return Err(NotAllowed(text.into()));
        }
        Ok(Self::Host(name.into()))
    }
}

impl TryFrom<String> for Allowed {
    type Error = NotAllowed;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Allowed> for String {
    fn from(allowed: Allowed) -> Self {
        allowed.to_string()
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Host(name) => f.write_str(name),
        }
    }
}

/// An address that requests must not reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, which is {word}: `worker.http.allow` lists neither it nor a network around it")]
pub(super) struct Forbidden {
    /// The address, and its host name if any.
    what: String,
    /// The reason, from [`forbidden`].
    word: &'static str,
}

/// Checks addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    networks: Vec<IpNet>,
    hosts: BTreeSet<Box<str>>,
}

impl Guard {
    pub(super) fn new(allow: &[Allowed]) -> Self {
        let mut guard = Self::default();
        for allowed in allow {
            match allowed {
                Allowed::Network(network) => guard.networks.push(*network),
                Allowed::Host(name) => _ = guard.hosts.insert(name.clone()),
            }
        }
        guard
    }

    /// Checks a URL whose host is an address in any notation. Host names are checked when they are
    /// resolved.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse() {
            Ok(address) => self.check(address, || address.to_string()),
            Err(_) => Ok(()),
        }
    }

    /// Checks the addresses of a name. If one is forbidden, all are.
    pub(super) fn check_resolved(&self, name: &str, to: &[IpAddr]) -> Result<(), Forbidden> {
        if self.hosts.contains(&*plain(name)) {
            return Ok(());
        }
        to.iter().try_for_each(|&address| {
            self.check(address, || format!("{name} has the address {address}"))
        })
    }

    fn check(&self, address: IpAddr, what: impl FnOnce() -> String) -> Result<(), Forbidden> {
        let inner = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
        };
        let is_in = |network: &IpNet| {
            network.contains(&address) || inner.is_some_and(|inner| network.contains(&inner))
        };
        match forbidden(address) {
            Some(word) if !self.networks.iter().any(is_in) => Err(Forbidden { what: what(), word }),
            _ => Ok(()),
        }
    }
}

/// Normalizes a name for comparison.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        let allow: Vec<Allowed> = allow.iter().map(|text| text.parse().unwrap()).collect();
        Guard::new(&allow)
    }

    fn is_refused(guard: &Guard, url: &str) -> bool {
        guard.check_url(&url.parse().unwrap()).is_err()
    }

    #[test]
    fn every_way_to_write_an_address_is_seen_through() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "0x7f000001",
            "127.0.0.1.",
            "１２７.0.0.1",
            "%31%32%37.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "0",
        ] {
            assert!(is_refused(&guard(&[]), &format!("http://user@{host}:80/x")), "{host}");
        }
        assert!(!is_refused(&guard(&[]), "http://1.1.1.1/"));
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_beside_it() {
        let guard = guard(&["10.0.0.0/8", "127.0.0.1", "Cache.Internal.", "fd00::/8"]);
        for url in ["http://10.9.8.7/", "http://127.0.0.1/", "http://[fd00::1]/"] {
            assert!(!is_refused(&guard, url), "{url}");
        }
        assert!(!is_refused(&guard, "http://[::ffff:10.0.0.1]/"));
        assert!(is_refused(&guard, "http://127.0.0.2/") && is_refused(&guard, "http://[::1]/"));
        let private = ["192.168.0.1".parse().unwrap()];
        assert_eq!(guard.check_resolved("cache.INTERNAL", &private), Ok(()));
        let refused = guard.check_resolved("other.internal", &private).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "other.internal has the address 192.168.0.1, which is private: \
             `worker.http.allow` lists neither it nor a network around it"
        );
    }

    #[test]
    fn one_forbidden_address_among_others_forbids_the_name() {
        let mixed = ["1.1.1.1".parse().unwrap(), "169.254.169.254".parse().unwrap()];
        assert!(guard(&[]).check_resolved("a.example", &mixed).is_err());
        assert_eq!(guard(&[]).check_resolved("a.example", &mixed[..1]), Ok(()));
    }

    #[test]
    fn what_is_neither_network_nor_name_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "a b", "http://x", "*", "0x7f.1", "."] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
        for text in ["10.0.0.0/8", "127.0.0.1/32", "a.example", "localhost"] {
            assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
        }
    }
}
