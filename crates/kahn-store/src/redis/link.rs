//! A connection that is ready for use: the server is the master, it is safe to write to, it has the
//! scripts, and it has our cluster.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, Value};
use kahn_model::Partition;
use tokio::time::{Instant, timeout};

use crate::error::StoreError;
use crate::redis::address::Endpoint;
use crate::redis::dial::{Dialed, Dialer};
use crate::redis::gate::{Gate, Settings};
use crate::redis::keys::Keys;
use crate::redis::outages::Outages;
use crate::redis::scripts::SCRIPTS;
use crate::redis::topology::Topology;
use crate::store::ClusterId;

/// A server, and whether it must be told that it is asked out of turn, while it receives a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) server: Endpoint,
    pub(super) is_asking: bool,
}

impl Route {
    pub(super) fn to(server: Endpoint) -> Self {
        Self { server, is_asking: false }
    }
}

/// A connection to the master on a route.
pub(super) struct Link {
    pub(super) route: Route,
    pub(super) dialed: Dialed,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("route", &self.route).finish_non_exhaustive()
    }
}

/// How to make links.
#[derive(Debug)]
pub(super) struct Linker {
    pub(super) dialer: Dialer,
    pub(super) gate: Gate,
    pub(super) connect_timeout: Duration,
    /// Whether the servers must be nodes of a Redis Cluster.
    pub(super) is_cluster: bool,
    pub(super) topology: Arc<Topology>,
    pub(super) outages: Arc<Outages>,
}

/// A connection that took longer is confirmed: see [`Topology::confirm`].
const QUICK: Duration = Duration::from_millis(50);

impl Linker {
    /// Connects and prepares the connection. `home` is a partition that must belong to the cluster.
    pub(super) async fn link(
        &self,
        route: Route,
        home: Option<(Partition, ClusterId)>,
    ) -> Result<Link, StoreError> {
        let began = Instant::now();
        let made = timeout(self.connect_timeout, self.make_ready(route.clone(), home)).await;
        let link =
            made.map_err(|_| StoreError::NoAnswer { server: route.server.to_string() })??;
        if QUICK < began.elapsed() {
            self.topology.confirm(&route.server).await?;
        }
        Ok(link)
    }

    async fn make_ready(
        &self,
        route: Route,
        home: Option<(Partition, ClusterId)>,
    ) -> Result<Link, StoreError> {
        let server = &route.server;
        let mut dialed = self.dialer.dial(server).await?;
        let mut setup = ::redis::pipe();
        Settings::ask(&mut setup);
        for script in SCRIPTS.all() {
            setup.cmd("SCRIPT").arg("LOAD").arg(script.text);
        }
        let n_commands = Settings::N_COMMANDS + SCRIPTS.all().len();
        let answers = dialed.run(&setup, n_commands).await;
        let answers = answers.map_err(|error| self.dialer.failed(server, error))?;
        let (settings, loaded) = answers.split_at(Settings::N_COMMANDS);
        self.check(server, &Settings::parse(settings))?;
        for answer in loaded {
            let done = answer.clone().extract_error();
            done.map_err(|error| self.dialer.failed(server, error))?;
        }
        let mut link = Link { route, dialed };
        // While a slot moves, its keys are at two servers.
        if let Some((partition, cluster)) = home.filter(|_| !link.route.is_asking) {
            link.check_home(partition, cluster).await?;
        }
        Ok(link)
    }

    fn check(&self, server: &Endpoint, settings: &Settings) -> Result<(), StoreError> {
        let server = server.to_string();
        if settings.is_in_cluster && !self.is_cluster {
            return Err(StoreError::BadConfig(format!(
                "redis at {server} is a node of a cluster: use the scheme redis+cluster"
            )));
        }
        if settings.role == "slave" {
            return Err(StoreError::NotMaster { server });
        }
        self.gate.admit(&server, settings)
    }
}

/// A request in flight.
pub(super) type Pending = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>>;

impl Link {
    /// Starts a request. It makes progress while both it and the driver are polled.
    pub(super) fn start(&self, call: Cmd) -> Pending {
        let mut connection = self.dialed.connection.clone();
        let is_asking = self.route.is_asking;
        Box::pin(async move { send(&mut connection, call, is_asking).await })
    }

    /// Starts to wait for replicas.
    pub(super) fn start_wait(&self, wait: Cmd) -> Pending {
        let mut connection = self.dialed.connection.clone();
        Box::pin(async move { send(&mut connection, wait, false).await })
    }

    async fn check_home(
        &mut self,
        partition: Partition,
        wanted: ClusterId,
    ) -> Result<(), StoreError> {
        let asked = self.start(home_query(partition));
        let answer = tokio::select! {
            answer = asked => answer?,
            () = &mut self.dialed.driver => return Err(crate::redis::dial::closed().into()),
        };
        check_home(answer, wanted)
    }
}

/// Sends a command, and returns its answer or the error with which it was refused.
pub(super) async fn send(
    connection: &mut MultiplexedConnection,
    call: Cmd,
    is_asking: bool,
) -> RedisResult<Value> {
    if !is_asking {
        return connection.send_packed_command(&call).await.and_then(Value::extract_error);
    }
    let mut commands = ::redis::pipe();
    commands.cmd("ASKING").add_command(call);
    let mut answers = connection.send_packed_commands(&commands, 1, 1).await?;
    answers.pop().unwrap_or(Value::Nil).extract_error()
}

/// Returns the query for the id of the cluster to which a partition belongs.
pub(super) fn home_query(partition: Partition) -> Cmd {
    let mut query = ::redis::cmd("HGET");
    query.arg(Keys::new(partition).m).arg("id");
    query
}

/// Checks the answer to [`home_query`].
pub(super) fn check_home(answer: Value, wanted: ClusterId) -> Result<(), StoreError> {
    let id: Option<String> =
        ::redis::from_redis_value(answer).map_err(::redis::RedisError::from)?;
    let found = id.and_then(|id| u128::from_str_radix(&id, 16).ok()).map(ClusterId);
    if found == Some(wanted) { Ok(()) } else { Err(StoreError::WrongCluster { found, wanted }) }
}
