//! Alternates between standby and leader until the coordinator is stopped.

use std::time::Duration;

use kahn_runtime::health::Readiness;
use kahn_store::Owner;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, error, info, warn};

use crate::driver::Ended;
use crate::election::{Candidate, Outcome};
use crate::leader::{Leader, Shared};
use crate::replica::RecoveryError;
use crate::role::{Peer, Role, Roles};
use crate::stats::RoleName;

/// How often a standby reads the logs and tries to become the leader while a lease lasts.
const TRIES_PER_TTL: u32 = 12;
/// The longest time to wait for a connection to the leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often an idle connection to the leader is checked.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
/// The pause after a failed attempt to connect to the leader.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);
/// The number of connections to the leader. Each has a limited number of streams, and streams that
/// are not read delay the others of their connection.
const CHANNELS: usize = 16;
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A coordinator between its start and its end.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub candidate: Candidate,
    pub shared: Shared,
    pub roles: Roles,
    pub readiness: Readiness,
    pub stopping: CancellationToken,
    /// The task that connects to the leader.
    pub connecting: Option<JoinHandle<()>>,
    /// The leader that was last connected to, in vain or not.
    pub last_tried: u64,
}

/// What a coordinator is at a moment.
#[derive(Debug)]
pub(super) enum Stage {
    Leader(Leader),
    Standby,
}

impl Lifecycle {
    /// Takes part in the election for the first time.
    ///
    /// # Errors
    ///
    /// Returns an error if the state cannot be read, which would otherwise only delay the election.
    pub(super) async fn begin(&mut self) -> Result<Stage, RecoveryError> {
        let outcome = self.candidate.campaign().await?;
        Ok(self.enter(outcome))
    }

    /// Runs until the coordinator is stopped, or may not continue.
    pub(super) async fn run(mut self, mut stage: Stage) -> Ended {
        loop {
            stage = match stage {
                Stage::Standby => match self.stand_by().await {
                    Some(next) => next,
                    None => return Ended::Closed,
                },
                Stage::Leader(leader) => match self.lead(leader).await {
                    Ended::Deposed => Stage::Standby,
                    ended => return ended,
                },
            };
        }
    }

    /// Follows the leader until it has to be replaced. Returns `None` when stopped.
    async fn stand_by(&mut self) -> Option<Stage> {
        let period = self.shared.store.lease_ttl() / TRIES_PER_TTL;
        let mut is_behind = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                () = self.stopping.cancelled() => return None,
            }
            let outcome = tokio::select! {
                outcome = self.candidate.campaign() => outcome,
                () = self.stopping.cancelled() => return None,
            };
            match outcome {
                Ok(outcome) => match self.enter(outcome) {
                    Stage::Standby => is_behind = false,
                    leader @ Stage::Leader(_) => return Some(leader),
                },
                Err(error) => {
                    if !is_behind {
                        warn!(%error, "cannot follow the leader");
                        self.readiness.set("coordinator", Err(format!("cannot follow: {error}")));
                        self.shared.stats.role(RoleName::CatchingUp);
                    }
                    is_behind = true;
                }
            }
        }
    }

    async fn lead(&self, mut leader: Leader) -> Ended {
        let mut certainty = leader.certainty();
        let ended = loop {
            tokio::select! {
                ended = leader.ended() => break ended,
                () = self.stopping.cancelled() => {
                    self.roles.set(Role::Stopping);
                    return leader.resign().await;
                }
                is_certain = certainty.changed() => self.roles.set(match is_certain {
                    true => Role::Leader(leader.routes()),
                    // Another coordinator may lead. Requests wait here until that is known.
                    false => Role::Waiting,
                }),
            }
        };
        self.roles.set(Role::Waiting);
        self.shared.stats.clear();
        match ended {
            Ended::Deposed => warn!("another coordinator has taken over"),
            Ended::Closed | Ended::Diverged | Ended::Failed => {
                error!(?ended, "the leadership has ended");
                self.roles.set(Role::Stopping);
                self.readiness.set("coordinator", Err("the leadership has ended".into()));
            }
        }
        ended
    }

    /// Takes the role that results from the election.
    fn enter(&mut self, outcome: Outcome) -> Stage {
        let stage = match outcome {
            Outcome::Elected { recovered, asked_at } => {
                match Leader::start(*recovered, asked_at, &self.shared) {
                    Ok(leader) => {
                        self.stop_connecting();
                        self.roles.set(Role::Leader(leader.routes()));
                        self.shared.stats.role(RoleName::Leader);
                        Stage::Leader(leader)
                    }
                    Err(error) => {
                        error!(%error, "cannot start a thread, and thus not lead");
                        self.roles.set(Role::Waiting);
                        return Stage::Standby;
                    }
                }
            }
            Outcome::Led(leader) => {
                self.follow(leader);
                self.shared.stats.role(RoleName::Standby);
                Stage::Standby
            }
            Outcome::Undecided => Stage::Standby,
        };
        self.readiness.set("coordinator", Ok(()));
        stage
    }

    /// Connects to the leader in the background, unless it is connected already.
    fn follow(&mut self, leader: Owner) {
        let is_connecting = self.connecting.as_ref().is_some_and(|task| !task.is_finished());
        if is_connecting || self.roles.is_forwarding_to(&leader.address) {
            return;
        }
        self.roles.set(Role::Waiting);
        let roles = self.roles.clone();
        let is_first_try = self.last_tried != leader.nonce;
        self.last_tried = leader.nonce;
        self.connecting = Some(tokio::spawn(async move {
            match connect(&leader.address).await {
                Ok(peer) => {
                    info!(leader = leader.address, "standing by");
                    roles.set(Role::Standby(peer));
                }
                Err(error) => {
                    let (leader, error) = (leader.address, chain(&error));
                    match is_first_try {
                        true => warn!(leader, error, "the leader cannot be reached"),
                        false => debug!(leader, error, "the leader cannot be reached"),
                    }
                    // Not tried again at once.
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
            }
        }));
    }

    fn stop_connecting(&mut self) {
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        self.stop_connecting();
    }
}

/// Formats an error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    let sources: String = sources.map(|source| format!(": {source}")).collect();
    format!("{error}{sources}")
}

async fn connect(address: &str) -> Result<Peer, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(address.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_EVERY)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    // The others connect when they are used.
    let mut channels: Vec<Channel> = vec![endpoint.connect().await?];
    channels.resize_with(CHANNELS, || endpoint.connect_lazy());
    Ok(Peer::new(address, channels))
}
