//! Addresses of Redis: what servers there are, and how to find the one to write to.

mod percent;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use percent::decode;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const SCHEMES: &str = "redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster, \
                       rediss+cluster or unix";

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// How the server to write to is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is the only one.
    Standalone,
    /// The nodes of the address are sentinels, which know the master with this name.
    Sentinel { master: String },
    /// The nodes of the address know the master of each slot.
    Cluster,
}

/// A parsed address. It contains the password, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) kind: Kind,
    /// At least one.
    pub(super) nodes: Vec<Endpoint>,
    pub(super) is_tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
}

/// Why an address is not valid. No variant contains anything that could be part of a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("it has no scheme: begin it with {SCHEMES}, followed by \"://\"")]
    NoScheme,
    #[error("unknown scheme {0:?}: use {SCHEMES}")]
    UnknownScheme(String),
    #[error(
        "the user or password contains a reserved character: write \"/\" as %2F, \"?\" as %3F, \
         \"#\" as %23 and \"@\" as %40"
    )]
    Reserved,
    #[error("\"%\" in the {0} must be followed by two hexadecimal digits that form valid UTF-8")]
    Percent(&'static str),
    #[error("a host is missing: write for example \"host:{REDIS_PORT}\"")]
    NoHost,
    #[error(
        "{0:?} is not a host, or not followed by a port: write for example \"host:{REDIS_PORT}\" or \
         \"[::1]:{REDIS_PORT}\""
    )]
    Host(String),
    #[error("a standalone redis has one host: use redis+sentinel or redis+cluster for several")]
    SeveralHosts,
    #[error(
        "the name of the master is missing: write \"redis+sentinel://host:{SENTINEL_PORT}/name\""
    )]
    NoMaster,
    #[error("{0:?} is not the number of a database")]
    Database(String),
    #[error("a redis cluster has only database 0")]
    DatabaseInCluster,
    #[error("unexpected {0:?} at the end")]
    Trailing(String),
    #[error("parameters are not supported: remove everything from \"?\" or \"#\"")]
    Parameters,
    #[error("a socket needs an absolute path: write \"unix:///path\"")]
    SocketPath,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::NoScheme)?;
        let (kind, is_tls) = match scheme {
            "unix" | "redis+unix" => return Self::socket(rest),
            "redis" => (Kind::Standalone, false),
            "rediss" => (Kind::Standalone, true),
            "redis+sentinel" => (Kind::Sentinel { master: String::new() }, false),
            "rediss+sentinel" => (Kind::Sentinel { master: String::new() }, true),
            "redis+cluster" => (Kind::Cluster, false),
            "rediss+cluster" => (Kind::Cluster, true),
            other => return Err(AddressError::UnknownScheme(other.to_owned())),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') || authority.matches('@').count() > 1 {
            return Err(AddressError::Reserved);
        }
        let (login, hosts) = match authority.split_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        if rest.contains(['?', '#']) {
            let is_in_login = login.is_some_and(|login| login.contains(['?', '#']));
            return Err(if is_in_login {
                AddressError::Reserved
            } else {
                AddressError::Parameters
            });
        }
        let port = if scheme.ends_with("sentinel") { SENTINEL_PORT } else { REDIS_PORT };
        let nodes = hosts.split(',').map(|host| node(host, port)).collect::<Result<Vec<_>, _>>()?;
        if kind == Kind::Standalone && nodes.len() > 1 {
            return Err(AddressError::SeveralHosts);
        }
        let (user, password) = login.map_or(Ok((None, None)), split_login)?;
        let (kind, database) = on_path(kind, path)?;
        Ok(Self { kind, nodes, is_tls, user, password, database })
    }

    fn socket(path: &str) -> Result<Self, AddressError> {
        if path.contains(['?', '#']) {
            return Err(AddressError::Parameters);
        }
        if !path.starts_with('/') {
            return Err(AddressError::SocketPath);
        }
        Ok(Self {
            kind: Kind::Standalone,
            nodes: vec![Endpoint::Unix(PathBuf::from(path))],
            is_tls: false,
            user: None,
            password: None,
            database: 0,
        })
    }
}

/// Parses `host`, `host:port`, `[v6]` or `[v6]:port`.
fn node(text: &str, usual_port: u16) -> Result<Endpoint, AddressError> {
    if text.is_empty() {
        return Err(AddressError::NoHost);
    }
    // What follows a colon may be a password whose host was forgotten.
    let shown = if text.starts_with('[') { text } else { text.split(':').next().unwrap_or(text) };
    let bad = || AddressError::Host(shown.to_owned());
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(bad());
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(bad()),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_forbidden = |c: char| c.is_whitespace() || c.is_control() || "[]%".contains(c);
    if host.is_empty() || host.contains(is_forbidden) {
        return Err(bad());
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?,
        None => usual_port,
    };
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

type Login = (Option<String>, Option<String>);

/// Parses `user:password`, `:password` or `user`.
fn split_login(login: &str) -> Result<Login, AddressError> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let user = decode(user).ok_or(AddressError::Percent("user"))?;
    let password = password.map(|text| decode(text).ok_or(AddressError::Percent("password")));
    Ok((Some(user).filter(|user| !user.is_empty()), password.transpose()?))
}

/// Parses the name of the master and the number of the database.
fn on_path(kind: Kind, path: &str) -> Result<(Kind, i64), AddressError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    match kind {
        Kind::Standalone => Ok((kind, database(path)?)),
        Kind::Sentinel { .. } => {
            let (name, number) = path.split_once('/').unwrap_or((path, ""));
            let master = decode(name).ok_or(AddressError::Percent("name of the master"))?;
            if master.is_empty() {
                return Err(AddressError::NoMaster);
            }
            Ok((Kind::Sentinel { master }, database(number)?))
        }
        Kind::Cluster => match database(path)? {
            0 => Ok((kind, 0)),
            _ => Err(AddressError::DatabaseInCluster),
        },
    }
}

fn database(text: &str) -> Result<i64, AddressError> {
    if let Some((_, rest)) = text.split_once('/') {
        return Err(AddressError::Trailing(rest.to_owned()));
    }
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse::<u32>().map_err(|_| AddressError::Database(text.to_owned()))?;
    Ok(number.into())
}
