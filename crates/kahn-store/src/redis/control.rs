//! Shared connections for control operations, one per server and purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, Value};
use kahn_model::Partition;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::error::StoreError;
use crate::redis::link::{Link, Linker, Route, check_home, home_query, send};
use crate::redis::replicate::{Replicas, wait_count};
use crate::redis::reply::{is_broken, is_declined};
use crate::store::ClusterId;

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
    connection: MultiplexedConnection,
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
        Self { connection: link.dialed.connection, driver, checked: BTreeSet::new() }
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
        let mut connection = connect(&place, linker, route, operation.home).await?;
        let waits = operation.purpose == Purpose::Write && replicas.wanted != 0;
        let done = if waits {
            send_and_wait(&mut connection, operation.call, route.is_asking, replicas).await
        } else {
            send(&mut connection, operation.call.clone(), route.is_asking)
                .await
                .map_err(StoreError::from)
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
) -> Result<MultiplexedConnection, StoreError> {
    let mut place = place.lock().await;
    let control = match &mut *place {
        Some(control) => control,
        empty => empty.insert(Control::new(linker.link(route.clone(), None).await?)),
    };
    if let Some((partition, cluster)) = home
        && !control.checked.contains(&partition)
    {
        let asked = send(&mut control.connection, home_query(partition), route.is_asking).await;
        if asked.as_ref().is_err_and(is_broken) {
            *place = None;
        }
        check_home(asked?, cluster)?;
        if let Some(control) = &mut *place {
            control.checked.insert(partition);
            return Ok(control.connection.clone());
        }
    }
    let control = place.as_ref().expect("invariant: it is connected");
    Ok(control.connection.clone())
}

async fn send_and_wait(
    connection: &mut MultiplexedConnection,
    call: &Cmd,
    is_asking: bool,
    replicas: Replicas,
) -> Result<Value, StoreError> {
    let mut commands = ::redis::pipe();
    if is_asking {
        commands.cmd("ASKING");
    }
    commands.add_command(call.clone()).add_command(replicas.wait());
    let answers: RedisResult<Vec<Value>> =
        connection.send_packed_commands(&commands, commands.len() - 2, 2).await;
    let mut answers = answers?.into_iter();
    let done = answers.next().unwrap_or(Value::Nil).extract_error()?;
    // A script that was not carried out has written nothing for which replicas could be counted.
    if !is_declined(&done) {
        replicas.check(wait_count(answers.next().unwrap_or(Value::Nil).extract_error()?)?)?;
    }
    Ok(done)
}
