//! Which server is the master of each slot.
//!
//! What is known is used until an error shows that it may be wrong. Then the servers that know
//! better are asked again before the next connection is made: sentinels, or the nodes of a cluster.
//! A server that is not the master refuses writes, so a wrong answer costs time and nothing else;
//! one that was cut off from the others and does not know it yet is replaced in [`watch`].

mod ask;
mod cluster;
mod sentinel;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::RedisError;
use tracing::info;

use crate::error::StoreError;
use crate::redis::address::Endpoint;
use crate::redis::dial::Dialer;
use crate::redis::link::Route;
use crate::redis::outages::Outages;
use crate::redis::reply::is_misdirected;
use crate::redis::slots::{SlotMap, redirected};
pub(super) use sentinel::Sentinels;
pub(super) use watch::watch;

/// The source of what is known.
#[derive(Debug)]
pub(super) enum Discovery {
    /// There is one server.
    Fixed(Endpoint),
    /// Sentinels know the address of the master.
    Sentinel(Sentinels),
    /// Each node of the cluster knows all others. These are asked first.
    Cluster { seeds: Vec<Endpoint>, dialer: Dialer },
}

/// What is known about the servers.
#[derive(Debug)]
pub(super) struct Topology {
    discovery: Discovery,
    view: Mutex<View>,
    /// Held while servers are asked, so that they are asked once for all who wait.
    refreshing: tokio::sync::Mutex<()>,
    /// Each change of a master counts as one.
    outages: Arc<Outages>,
}

#[derive(Debug, Default)]
struct View {
    map: Option<SlotMap>,
    /// Whether an error has shown that the map may be wrong.
    is_stale: bool,
    /// Counts the refreshes.
    version: u64,
}

impl Topology {
    pub(super) fn new(discovery: Discovery, outages: Arc<Outages>) -> Self {
        let view = match &discovery {
            Discovery::Fixed(server) => {
                View { map: Some(SlotMap::of_one(server.clone())), ..View::default() }
            }
            Discovery::Sentinel(_) | Discovery::Cluster { .. } => View::default(),
        };
        let refreshing = tokio::sync::Mutex::new(());
        Self { discovery, view: Mutex::new(view), refreshing, outages }
    }

    /// Returns the master of a slot. Asks for it if it is not known for certain.
    pub(super) async fn locate(&self, slot: u16) -> Result<Route, StoreError> {
        let seen = {
            let view = self.view();
            if let Some(server) = view.server(slot) {
                return Ok(Route::to(server.clone()));
            }
            view.version
        };
        self.refresh(seen).await?;
        let view = self.view();
        let server = view.map.as_ref().and_then(|map| map.server(slot));
        server.cloned().map(Route::to).ok_or_else(|| StoreError::NoMaster {
            wanted: format!("slot {slot}"),
            problems: "no node of the cluster serves it; see CLUSTER INFO".to_owned(),
        })
    }

    /// Asks the sentinels again whether a server is the master.
    ///
    /// If it did not answer for a while, it may have been replaced meanwhile and not know it yet.
    pub(super) async fn confirm(&self, server: &Endpoint) -> Result<(), StoreError> {
        let Discovery::Sentinel(sentinels) = &self.discovery else { return Ok(()) };
        let master = sentinels.master().await?;
        if master == *server {
            return Ok(());
        }
        self.replace(SlotMap::of_one(master));
        Err(StoreError::NotMaster { server: server.to_string() })
    }

    /// Returns whether a server is still known as the master of a slot.
    pub(super) fn is_current(&self, slot: u16, server: &Endpoint) -> bool {
        self.view().map.as_ref().is_none_or(|map| map.server(slot) == Some(server))
    }

    /// Notes that a server could not be reached, or is not what it should be.
    pub(super) fn suspect(&self) {
        if !matches!(self.discovery, Discovery::Fixed(_)) {
            self.view().is_stale = true;
        }
    }

    /// Notes the new master of a slot.
    fn assign(&self, slot: u16, server: Endpoint) {
        if let Some(map) = &mut self.view().map {
            map.assign(slot, server);
            self.outages.add();
        }
    }

    /// Takes notice of the redirection in an error that the server on `route` has given for a
    /// request to `slot`. Returns the server that must be asked once instead, if it says so.
    pub(super) fn on_error(&self, slot: u16, route: &Route, error: &RedisError) -> Option<Route> {
        if matches!(self.discovery, Discovery::Fixed(_)) {
            return None;
        }
        let target = error.redirect_node().and_then(|(to, _)| redirected(to, &route.server));
        match (error.code(), target) {
            (Some("ASK"), Some(server)) => return Some(Route { server, is_asking: true }),
            (Some("MOVED"), Some(server)) if !route.is_asking => self.assign(slot, server),
            _ if is_misdirected(error) => self.suspect(),
            _ => {}
        }
        None
    }

    /// Asks for the map, unless somebody else has done so since `seen`.
    async fn refresh(&self, seen: u64) -> Result<(), StoreError> {
        let _refreshing = self.refreshing.lock().await;
        if self.view().version != seen {
            return Ok(());
        }
        let map = match &self.discovery {
            Discovery::Fixed(server) => SlotMap::of_one(server.clone()),
            Discovery::Sentinel(sentinels) => SlotMap::of_one(sentinels.master().await?),
            Discovery::Cluster { seeds, dialer } => {
                cluster::slots(dialer, self.nodes(seeds)).await?
            }
        };
        self.replace(map);
        Ok(())
    }

    /// Returns the nodes to ask: those that are known, and the first ones.
    fn nodes(&self, seeds: &[Endpoint]) -> Vec<Endpoint> {
        let view = self.view();
        let known = view.map.iter().flat_map(SlotMap::servers);
        let mut nodes: Vec<Endpoint> = known.chain(seeds).cloned().collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn replace(&self, map: SlotMap) {
        let mut view = self.view();
        if view.map.as_ref() != Some(&map) {
            if view.map.is_some() {
                self.outages.add();
            }
            let servers: Vec<_> = map.servers().into_iter().map(Endpoint::to_string).collect();
            info!(servers = servers.join(","), "masters of redis");
        }
        *view = View { map: Some(map), is_stale: false, version: view.version + 1 };
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn server(&self, slot: u16) -> Option<&Endpoint> {
        self.map.as_ref().filter(|_| !self.is_stale)?.server(slot)
    }
}
