//! The connection to the coordinator, reopened with jitter when it is lost.

use std::error::Error as _;
use std::time::Duration;

use kahn_net::DialError;
use kahn_proto::worker::coordinator_message::Message;
use kahn_proto::worker::{CoordinatorMessage, WorkerMessage};
use kahn_runtime::backoff::Backoff;
use kahn_runtime::token::Token;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};
use tracing::{debug, info, warn};

use crate::driver::Input;
use crate::link::Link;

/// Maximum outbound messages buffered for the network.
const MESSAGES_MAX: usize = 64;
/// How long to wait for a coordinator to accept the stream, before another one is asked. Less than a
/// third of the usual term of a lease, so that two coordinators that hang do not cost the leases.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a coordinator may be silent before the lease is known. It answers every heartbeat.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Upper bounds of the delays between connection attempts.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The sender of messages to the coordinator.
pub(crate) type Outbound = mpsc::Sender<WorkerMessage>;

/// Keeps a stream open until the driver ends.
pub(crate) async fn keep_open(link: Link, inbox: mpsc::Sender<Input>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match run_stream(&link, &inbox, &mut backoff).await {
            Ok(()) => debug!("the coordinator has ended the stream"),
            Err(status) => report(&status, &link.token, backoff.n_tries()),
        }
        link.leave();
        if inbox.is_closed() {
            return;
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

fn report(status: &Status, token: &Token, n_tries: u32) {
    let refused = status.source().and_then(DialError::cause_of).filter(|it| it.is_permanent());
    if let Some(refused) = refused {
        warn!(reason = %refused, "cannot connect to the coordinator");
        return;
    }
    if status.code() == tonic::Code::Unauthenticated {
        warn!(
            "the coordinator refuses this worker's token from {}; set worker.token_file to the \
             coordinator's file `worker.token`",
            token.origin()
        );
    } else if status.code() == tonic::Code::PermissionDenied {
        warn!(reason = status.message(), "the coordinator refuses this worker");
    } else if n_tries == 0 {
        info!(reason = status.message(), "lost the coordinator; continuing with the held leases");
    } else {
        debug!(reason = status.message(), "the coordinator cannot be reached");
    }
}

async fn run_stream(
    link: &Link,
    inbox: &mpsc::Sender<Input>,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let (mut outbound, mut response) = attach(link).await?;
    if let Some(direct) = link.find_leader(response.metadata()).await {
        match attach(&direct).await {
            Ok(attached) => {
                link.follow(&direct);
                (outbound, response) = attached;
            }
            Err(status) => debug!(%status, "the leader is reached by forwarding only"),
        }
    }
    let inbound = response.into_inner();
    // Connected only after the coordinator has accepted the stream: an earlier inventory could miss
    // leases granted in the meantime, and the coordinator would count them as lost.
    if inbox.send(Input::Connected(outbound)).await.is_err() {
        return Ok(());
    }
    let heard = listen(inbound, inbox, backoff).await;
    // Fails only if the driver has ended.
    drop(inbox.send(Input::Disconnected).await);
    heard
}

/// Opens a stream.
async fn attach(
    link: &Link,
) -> Result<(Outbound, Response<Streaming<CoordinatorMessage>>), Status> {
    let (outbound, messages) = mpsc::channel(MESSAGES_MAX);
    let request = link.request(ReceiverStream::new(messages));
    let mut client = link.client();
    match tokio::time::timeout(ATTACH_TIMEOUT, client.attach(request)).await {
        Ok(attached) => Ok((outbound, attached?)),
        Err(_) => Err(Status::deadline_exceeded("the coordinator does not respond")),
    }
}

async fn listen(
    mut inbound: Streaming<CoordinatorMessage>,
    inbox: &mpsc::Sender<Input>,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let mut silence_max = SILENCE_MAX;
    loop {
        let message = tokio::time::timeout(silence_max, inbound.message()).await;
        let silent = |_| Status::deadline_exceeded("the coordinator is silent");
        let Some(CoordinatorMessage { message }) = message.map_err(silent)?? else { break };
        let Some(message) = message else { continue };
        if let Message::Welcome(welcome) = &message {
            silence_max = Duration::from_micros(welcome.lease_ttl_micros) * 2 / 3;
        }
        backoff.reset();
        if inbox.send(Input::Message(message)).await.is_err() {
            break;
        }
    }
    Ok(())
}
