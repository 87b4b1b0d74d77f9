//! The connection to the coordinator, reopened with jitter when it is lost.

use std::time::Duration;

use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_proto::worker::{CoordinatorMessage, WorkerMessage};
use kahn_runtime::backoff::Backoff;
use kahn_runtime::token::Token;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tracing::{debug, info, warn};

use crate::driver::Input;

/// Maximum outbound messages buffered for the network.
const MESSAGES_MAX: usize = 64;
/// Maximum size of a message in either direction, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Upper bounds of the delays between connection attempts.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The sender of messages to the coordinator.
pub(crate) type Outbound = mpsc::Sender<WorkerMessage>;

/// The channel to the coordinator and the token for it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub channel: Channel,
    pub token: Token,
}

impl Link {
    pub(crate) fn client(&self) -> SessionsClient<Channel> {
        SessionsClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Creates a request with the token in its metadata.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Ok(mut value) =
            self.token.to_header().expose().parse::<tonic::metadata::MetadataValue<_>>()
        {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

/// Keeps a stream open until the driver ends.
pub(crate) async fn keep_open(link: Link, inbox: mpsc::Sender<Input>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match run_stream(&link, &inbox, &mut backoff).await {
            Ok(()) => debug!("the coordinator has ended the stream"),
            Err(status) => report(&status, &link.token, backoff.n_tries()),
        }
        if inbox.is_closed() {
            return;
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

fn report(status: &Status, token: &Token, n_tries: u32) {
    if status.code() == tonic::Code::Unauthenticated {
        warn!(
            "the coordinator refuses this worker's token from {}; set worker.token_file to the \
             coordinator's file `worker.token`",
            token.origin()
        );
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
    let (outbound, messages) = mpsc::channel(MESSAGES_MAX);
    let request = link.request(ReceiverStream::new(messages));
    let inbound = link.client().attach(request).await?.into_inner();
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

async fn listen(
    mut inbound: Streaming<CoordinatorMessage>,
    inbox: &mpsc::Sender<Input>,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    while let Some(CoordinatorMessage { message }) = inbound.message().await? {
        let Some(message) = message else { continue };
        backoff.reset();
        if inbox.send(Input::Message(message)).await.is_err() {
            break;
        }
    }
    Ok(())
}
