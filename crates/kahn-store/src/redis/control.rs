//! Shared connections for control operations, one per server and purpose.

mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use ::redis::{Cmd, Value};
use kahn_model::Partition;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::redis::link::{Link, Linker, Route, check_home, home_query};
use crate::redis::outages::Outages;
use crate::redis::replicate::Replicas;
use crate::redis::reply::is_broken;
use crate::store::ClusterId;
use shared::SharedConnection;

/// What a connection is used for. Writes have their own because waiting for replicas blocks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// An operation on the keys of one slot.
pub(super) struct Operation<'a> {
    pub(super) call: &'a Cmd,
    pub(super) purpose: Purpose,
    /// The partition whose keys it concerns and the cluster that must own it, if the store is open.
    pub(super) home: Option<(Partition, ClusterId)>,
    /// If this is not the number of outages, the operation must not be carried out.
    pub(super) n_outages: Option<u64>,
}

/// The connections. Each has a lock of its own, so that a server that hangs delays no other.
#[derive(Default)]
pub(super) struct Controls {
    shared: std::sync::Mutex<BTreeMap<(String, bool, Purpose), Arc<Place>>>,
}

type Place = Mutex<Shared>;

/// The connection of a place, if there is one.
#[derive(Default)]
struct Shared {
    control: Option<Control>,
    /// When connecting failed last.
    failed_at: Option<Instant>,
}

impl Shared {
    /// Closes a connection that is broken, unless another one has taken its place.
    fn close(&mut self, broken: &SharedConnection) {
        if self.control.as_ref().is_some_and(|control| control.shared.is(broken)) {
            self.control = None;
        }
    }
}

/// A connection and the task that drives it.
struct Control {
    shared: SharedConnection,
    driver: AbortHandle,
    /// The partitions that are known to belong to our cluster on this server.
    checked: BTreeSet<Partition>,
    /// The number of outages when it was made.
    n_outages: u64,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Control {
    fn new(link: Link, n_outages: u64) -> Self {
        let driver = tokio::spawn(link.dialed.driver).abort_handle();
        let shared = SharedConnection::new(link.dialed.connection, link.route.is_asking);
        Self { shared, driver, checked: BTreeSet::new(), n_outages }
    }

    /// Returns whether the connection has ended, and because of an outage that was counted. All
    /// others are noticed by the request that fails.
    fn has_ended(&self, outages: &Outages) -> bool {
        self.n_outages != outages.count() && self.driver.is_finished()
    }
}

impl std::fmt::Debug for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controls").finish_non_exhaustive()
    }
}

impl Controls {
    /// Runs an operation at the server on `route`.
    pub(super) async fn run(
        &self,
        linker: &Linker,
        replicas: Replicas,
        route: &Route,
        operation: &Operation<'_>,
    ) -> Result<Value, StoreError> {
        let place = self.place(route, operation.purpose);
        let shared = connect(&place, linker, route, operation.home).await?;
        if operation.n_outages.is_some_and(|expected| linker.outages.count() != expected) {
            return Err(StoreError::Outage);
        }
        let done = match operation.purpose {
            Purpose::Write => shared.write(operation.call, replicas).await,
            Purpose::Read => shared.send(operation.call.clone()).await.map_err(StoreError::from),
        };
        if let Err(StoreError::Redis(error)) = &done
            && is_broken(error)
        {
            place.lock().await.close(&shared);
        }
        done
    }

    fn place(&self, route: &Route, purpose: Purpose) -> Arc<Place> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.server.to_string(), route.is_asking, purpose);
        if !shared.contains_key(&key) {
            // Servers come and go. A place that is locked is in use.
            shared.retain(|_, place| place.try_lock().map_or(true, |one| one.control.is_some()));
        }
        Arc::clone(shared.entry(key).or_default())
    }
}

/// Returns the connection of a place. Connects if there is none, and checks the partition if that
/// has not been done over this connection.
async fn connect(
    place: &Place,
    linker: &Linker,
    route: &Route,
    home: Option<(Partition, ClusterId)>,
) -> Result<SharedConnection, StoreError> {
    let began_at = Instant::now();
    let mut place = place.lock().await;
    // All who have waited for an attempt share its outcome. Otherwise each would wait for a server
    // that does not answer, one after the other.
    if place.control.is_none() && place.failed_at.is_some_and(|failed_at| began_at < failed_at) {
        return Err(StoreError::NoAnswer { server: route.server.to_string() });
    }
    if place.control.as_ref().is_some_and(|control| control.has_ended(&linker.outages)) {
        place.control = None;
    }
    if place.control.is_none() {
        let n_outages = linker.outages.count();
        let linked = linker.link(route.clone(), None).await;
        place.failed_at = linked.is_err().then(Instant::now);
        place.control = Some(Control::new(linked?, n_outages));
    }
    let Some(control) = &place.control else {
        return Err(StoreError::NoAnswer { server: route.server.to_string() });
    };
    let shared = control.shared.clone();
    // While a slot moves, its keys are at two servers.
    if let Some((partition, cluster)) = home.filter(|_| !route.is_asking)
        && !control.checked.contains(&partition)
    {
        let asked = shared.send(home_query(partition)).await;
        if asked.as_ref().is_err_and(is_broken) {
            place.control = None;
        }
        check_home(asked?, cluster)?;
        if let Some(control) = &mut place.control {
            control.checked.insert(partition);
        }
    }
    Ok(shared)
}
