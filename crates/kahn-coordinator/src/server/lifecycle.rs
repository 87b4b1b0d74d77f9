//! Alternates between standby and leader until the coordinator is stopped.

use std::future::pending;
use std::time::Duration;

use kahn_net::{Addresses, ClientTls};
use kahn_runtime::health::Readiness;
use kahn_store::Owner;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
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
    pub following: Option<Following>,
    /// The files for connections to other coordinators, if they use TLS.
    pub peer_tls: Option<ClientTls>,
}

/// The leader that a standby follows.
#[derive(Debug)]
pub(super) struct Following {
    leader: Owner,
    /// Ends what was forwarded to this leader.
    replaced: CancellationToken,
    _guard: DropGuard,
    connecting: Option<JoinHandle<Option<Peer>>>,
    has_tried: bool,
}

impl Following {
    fn new(leader: Owner) -> Self {
        let replaced = CancellationToken::new();
        let guard = replaced.clone().drop_guard();
        Self { leader, replaced, _guard: guard, connecting: None, has_tried: false }
    }

    /// Starts to connect in the background.
    fn connect(&mut self, tls: Option<ClientTls>) {
        let (address, replaced) = (self.leader.address.clone(), self.replaced.clone());
        let is_first = !std::mem::replace(&mut self.has_tried, true);
        self.connecting = Some(tokio::spawn(async move {
            match connect(&address, tls, replaced).await {
                Ok(peer) => return Some(peer),
                Err(error) => {
                    let error = chain(&*error);
                    match is_first {
                        true => warn!(leader = address, error, "the leader cannot be reached"),
                        false => debug!(leader = address, error, "the leader cannot be reached"),
                    }
                }
            }
            // Not tried again at once.
            tokio::time::sleep(CONNECT_PAUSE).await;
            None
        }));
    }

    /// Waits for the connection that is being made. Pending if none is.
    async fn connected(&mut self) -> Option<Peer> {
        let Some(connecting) = &mut self.connecting else { return pending().await };
        let connected = connecting.await;
        self.connecting = None;
        connected.ok().flatten()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(connecting) = &self.connecting {
            connecting.abort();
        }
    }
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
                peer = connected(&mut self.following) => {
                    if let Some(peer) = peer {
                        info!(leader = peer.address(), "standing by");
                        self.roles.set(Role::Standby(peer));
                    }
                    continue;
                }
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
                is_certain = certainty.changed() => match is_certain {
                    true => self.roles.set(leader.role()),
                    // Another coordinator may lead. Requests wait here until that is known.
                    false => {
                        self.roles.set(Role::Waiting);
                        leader.end_watches();
                    }
                },
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
                        self.following = None;
                        self.roles.set(leader.role());
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
            Outcome::Undecided => {
                // Probably the same as before.
                if let Some(leader) = self.following.as_ref().map(|known| known.leader.clone()) {
                    self.follow(leader);
                }
                self.shared.stats.role(RoleName::Standby);
                Stage::Standby
            }
        };
        self.readiness.set("coordinator", Ok(()));
        stage
    }

    /// Follows the leader, and connects to it unless that is done or under way.
    fn follow(&mut self, leader: Owner) {
        let following = match &mut self.following {
            Some(following) if following.leader == leader => following,
            other => {
                self.roles.set(Role::Waiting);
                other.insert(Following::new(leader))
            }
        };
        let is_connected = self.roles.is_forwarding_to(&following.leader.address);
        if following.connecting.is_none() && !is_connected {
            following.connect(self.peer_tls.clone());
        }
    }
}

async fn connected(following: &mut Option<Following>) -> Option<Peer> {
    match following {
        Some(following) => following.connected().await,
        None => pending().await,
    }
}

/// Formats an error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    let sources: String = sources.map(|source| format!(": {source}")).collect();
    format!("{error}{sources}")
}

async fn connect(
    address: &str,
    tls: Option<ClientTls>,
    replaced: CancellationToken,
) -> Result<Peer, tonic::codegen::StdError> {
    let addresses = Addresses::of_leader(address, tls)?;
    let endpoint = Endpoint::from_shared(address.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_EVERY)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    // The others connect when they are used.
    let mut channels: Vec<Channel> = vec![addresses.connect(endpoint.clone()).await?];
    channels.resize_with(CHANNELS, || addresses.connect_lazy(endpoint.clone()));
    Ok(Peer::new(address, channels, replaced))
}
