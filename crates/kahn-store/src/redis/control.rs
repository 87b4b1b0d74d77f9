//! Shared connections for control operations, one per server and purpose.

mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use ::redis::{Cmd, Value};
use kahn_model::Partition;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::error::StoreError;
use crate::redis::link::{Link, Linker, Route, check_home, home_query};
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
}

/// The connections. Each has a lock of its own, so that a server that hangs delays no other.
#[derive(Default)]
pub(super) struct Controls {
    shared: std::sync::Mutex<BTreeMap<(String, bool, Purpose), Arc<Place>>>,
}

type Place = Mutex<Option<Control>>;

/// A connection and the task that drives it.
struct Control {
    shared: SharedConnection,
    driver: AbortHandle,
    /// The partitions that are known to belong to our cluster on this server.
    checked: BTreeSet<Partition>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Control {
    fn new(link: Link) -> Self {
        let driver = tokio::spawn(link.dialed.driver).abort_handle();
        let shared = SharedConnection::new(link.dialed.connection, link.route.is_asking);
        Self { shared, driver, checked: BTreeSet::new() }
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
        let done = match operation.purpose {
            Purpose::Write => shared.write(operation.call, replicas).await,
            Purpose::Read => shared.send(operation.call.clone()).await.map_err(StoreError::from),
        };
        if let Err(StoreError::Redis(error)) = &done
            && is_broken(error)
        {
            *place.lock().await = None;
        }
        done
    }

    fn place(&self, route: &Route, purpose: Purpose) -> Arc<Place> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.server.to_string(), route.is_asking, purpose);
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
    let mut place = place.lock().await;
    let control = match &mut *place {
        Some(control) => control,
        empty => empty.insert(Control::new(linker.link(route.clone(), None).await?)),
    };
    let shared = control.shared.clone();
    if let Some((partition, cluster)) = home
        && !control.checked.contains(&partition)
    {
        let asked = shared.send(home_query(partition)).await;
        if asked.as_ref().is_err_and(is_broken) {
            *place = None;
        }
        check_home(asked?, cluster)?;
        if let Some(control) = &mut *place {
            control.checked.insert(partition);
        }
    }
    Ok(shared)
}
