//! Requests to whichever server is the master: finds it, connects, and follows redirections.

use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;
use kahn_model::Partition;
use tokio::time::{Instant, sleep};

use crate::durability::Durability;
use crate::error::StoreError;
use crate::redis::address::{Address, Kind};
use crate::redis::config::RedisConfig;
use crate::redis::control::{Controls, Operation};
use crate::redis::dial::Dialer;
use crate::redis::gate::Gate;
use crate::redis::keys;
use crate::redis::link::{Link, Linker, Route};
use crate::redis::login::Login;
use crate::redis::outages::Outages;
use crate::redis::replicate::Replicas;
use crate::redis::reply::{is_declined, is_no_script, is_refused_for_now};
use crate::redis::topology::{Discovery, Sentinels, Topology, watch};
use crate::store::ClusterId;

/// The pause before a request that was refused for now is repeated.
const PAUSE: Duration = Duration::from_millis(20);

/// The connections to Redis, and what is known about its servers.
#[derive(Debug)]
pub(super) struct Access {
    topology: Arc<Topology>,
    linker: Linker,
    controls: Controls,
    pub(super) outages: Arc<Outages>,
    pub(super) replicas: Replicas,
    /// How long a request that is refused for now is repeated.
    patience: Duration,
    /// Whether there may be another server if one cannot be reached.
    has_others: bool,
}

impl Access {
    /// Parses the configuration, without connecting. Must be called on a runtime.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let address = Address::parse(&config.url)
            .map_err(|error| StoreError::BadConfig(format!("address of redis: {error}")))?;
        let dialer = dialer(config, &address)?;
        let has_others = address.kind != Kind::Standalone;
        let is_cluster = address.kind == Kind::Cluster;
        let has_sentinels = matches!(address.kind, Kind::Sentinel { .. });
        let outages = Arc::new(Outages::default());
        let discovery = discovery(config, address, dialer.clone())?;
        let topology = Arc::new(Topology::new(discovery, Arc::clone(&outages)));
        let linker = Linker {
            dialer,
            gate: Gate::new(config.allow_unsafe, config.replicas, has_sentinels),
            connect_timeout: config.connect_timeout,
            is_cluster,
            topology: Arc::clone(&topology),
            outages: Arc::clone(&outages),
        };
        if has_others {
            tokio::spawn(watch(Arc::downgrade(&topology)));
        }
        Ok(Self {
            topology,
            linker,
            controls: Controls::default(),
            outages,
            replicas: Replicas::new(config.replicas, config.reply_within()),
            patience: config.reply_within(),
            has_others,
        })
    }

    /// Ends the opening of the store, and returns the lowest level of all servers found.
    pub(super) fn close_gate(&self) -> Durability {
        self.linker.gate.close()
    }

    /// Runs an operation on a shared connection at the master of a slot.
    ///
    /// It is repeated once if the connection broke, and for a while if it was refused because the
    /// master is changing.
    pub(super) async fn run(
        &self,
        slot: u16,
        operation: &Operation<'_>,
    ) -> Result<Value, StoreError> {
        let until = Instant::now() + self.patience;
        let (mut redirection, mut was_broken) = (None, false);
        loop {
            let error = match self.try_run(slot, redirection.take(), operation).await {
                Ok(value) => return Ok(value),
                Err((error, next)) => {
                    redirection = next;
                    error
                }
            };
            let is_late = until <= Instant::now();
            if redirection.is_some() && !is_late {
                continue;
            }
            // Slow replicas are no outage.
            if !matches!(error, StoreError::NotReplicated { .. }) {
                self.outages.add();
            }
            if is_lost(&error) && !was_broken {
                was_broken = true;
            } else if self.may_pass(&error) && !is_late {
                sleep(PAUSE).await;
            } else {
                return Err(error);
            }
        }
    }

    /// Runs an operation like [`run`](Self::run), but once, and at a server that sentinels still call
    /// the master afterwards. Otherwise a master that was replaced could answer a claimant, until
    /// it hears of its successor.
    pub(super) async fn run_once(
        &self,
        slot: u16,
        operation: &Operation<'_>,
    ) -> Result<Value, StoreError> {
        let route = self.topology.locate(slot).await?;
        let done = self.controls.run(&self.linker, self.replicas, &route, operation).await;
        match &done {
            Err(StoreError::NotReplicated { .. } | StoreError::Outage) => {}
            Err(error) => {
                self.outages.add();
                self.on_error(slot, &route, error);
            }
            Ok(answer) if is_declined(answer) => {}
            Ok(_) => self.topology.confirm(&route.server).await?,
        }
        done
    }

    /// Returns, with an error, the server that must be asked once instead.
    async fn try_run(
        &self,
        slot: u16,
        redirection: Option<Route>,
        operation: &Operation<'_>,
    ) -> Result<Value, (StoreError, Option<Route>)> {
        let route = match redirection {
            Some(route) => route,
            None => self.topology.locate(slot).await.map_err(|error| (error, None))?,
        };
        let done = self.controls.run(&self.linker, self.replicas, &route, operation).await;
        done.map_err(|error| {
            let next = self.on_error(slot, &route, &error);
            (error, next)
        })
    }

    /// Makes a connection for an owner of a partition. `redirection` is the server to connect to, if
    /// it is not the one that is known as the master.
    pub(super) async fn link(
        &self,
        partition: Partition,
        cluster: ClusterId,
        redirection: Option<Route>,
    ) -> Result<Link, StoreError> {
        let slot = keys::slot(partition);
        let mut route = match redirection {
            Some(route) => route,
            None => self.topology.locate(slot).await?,
        };
        loop {
            let linked = self.linker.link(route.clone(), Some((partition, cluster))).await;
            let Err(error) = linked else { return linked };
            match self.on_error(slot, &route, &error) {
                Some(next) if !route.is_asking => route = next,
                _ => return Err(error),
            }
        }
    }

    /// Learns from an error. Returns the server that must be asked once instead, if there is one.
    pub(super) fn on_error(&self, slot: u16, route: &Route, error: &StoreError) -> Option<Route> {
        if let StoreError::Redis(error) = error {
            return self.topology.on_error(slot, route, error);
        }
        if !matches!(error, StoreError::NotReplicated { .. } | StoreError::Damaged(_)) {
            self.topology.suspect();
        }
        None
    }

    /// Returns whether a connection still leads to the master of a slot, as far as is known.
    pub(super) fn is_current(&self, slot: u16, route: &Route) -> bool {
        route.is_asking || self.topology.is_current(slot, &route.server)
    }

    /// Returns whether the same request may succeed soon.
    fn may_pass(&self, error: &StoreError) -> bool {
        match error {
            StoreError::Redis(error) => is_refused_for_now(error),
            StoreError::Io { .. }
            | StoreError::NoAnswer { .. }
            | StoreError::Connect { .. }
            | StoreError::NotMaster { .. }
            | StoreError::NoMaster { .. } => self.has_others,
            _ => false,
        }
    }
}

/// Returns whether an operation can be repeated at once over a new connection.
fn is_lost(error: &StoreError) -> bool {
    matches!(error, StoreError::Redis(error) if error.is_connection_dropped() || is_no_script(error))
}

fn dialer(config: &RedisConfig, address: &Address) -> Result<Dialer, StoreError> {
    let has_files = config.tls != Default::default();
    if has_files && !address.is_tls {
        return Err(StoreError::BadConfig(
            "certificates for redis are set, but the URL does not ask for TLS: use the scheme \
             rediss, rediss+sentinel or rediss+cluster"
                .to_owned(),
        ));
    }
    let in_url = (address.user.clone(), address.password.clone());
    Ok(Dialer {
        login: Login::new(in_url, config.user.as_deref(), config.password_file.as_ref())?,
        database: address.database,
        tls: address.is_tls.then(|| config.tls.clone()),
        response_timeout: config.reply_within(),
    })
}

fn discovery(
    config: &RedisConfig,
    address: Address,
    dialer: Dialer,
) -> Result<Discovery, StoreError> {
    let (user, file) = (config.sentinel_user.as_deref(), config.sentinel_password_file.as_ref());
    if !matches!(address.kind, Kind::Sentinel { .. }) && (user.is_some() || file.is_some()) {
        return Err(StoreError::BadConfig(
            "a user or password for sentinels is set, but the URL does not name sentinels"
                .to_owned(),
        ));
    }
    let mut nodes = address.nodes;
    Ok(match address.kind {
        Kind::Standalone => Discovery::Fixed(nodes.swap_remove(0)),
        Kind::Cluster => Discovery::Cluster { seeds: nodes, dialer },
        Kind::Sentinel { master } => {
            let login = Login::new((None, None), user, file)?;
            let dialer = Dialer { login, database: 0, ..dialer };
            Discovery::Sentinel(Sentinels::new(master, nodes, dialer))
        }
    })
}
