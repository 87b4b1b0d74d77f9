//! Serves requests according to the role of this coordinator: here, or by forwarding them to the
//! leader.
//!
//! While no leader is known, requests wait. Most are thus not even disturbed by a change of leader.
//! A forwarded request is not forwarded again, so that two coordinators with an outdated view of
//! each other do not pass it back and forth.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderName, HeaderValue, Request, Response};
use tower::{Service, ServiceExt as _};
use tracing::debug;

use super::interrupted::Interrupted;
use crate::role::{Peer, Role, Roles};

/// Marks a request that another coordinator has forwarded.
const FORWARDED: HeaderName = HeaderName::from_static("kahn-forwarded");
/// Names the leader in a response that comes from it through another coordinator.
const LEADER: HeaderName = HeaderName::from_static(kahn_proto::LEADER_HEADER);

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long a request waits for a leader. A bit longer than it takes to elect one.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Maximum number of requests that wait for a leader.
const WAITING_MAX: usize = 10_000;

/// The service behind authorization that serves or forwards all requests.
#[derive(Clone, Debug)]
pub(super) struct Frontend {
    roles: Roles,
    room: Arc<Semaphore>,
}

impl Frontend {
    pub(super) fn new(roles: Roles) -> Self {
        Self { roles, room: Arc::new(Semaphore::new(WAITING_MAX)) }
    }

    async fn role(&self) -> Role {
        match self.roles.current() {
            Role::Waiting => match self.room.try_acquire() {
                Ok(_permit) => self.roles.known(WAIT_MAX).await,
                Err(_) => Role::Waiting,
            },
            known => known,
        }
    }
}

impl<B> Service<Request<B>> for Frontend
where
    B: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let request = request.map(Body::new);
            Ok(match this.role().await {
                Role::Leader { routes, .. } => routes.oneshot(request).await?,
                Role::Standby(peer) if !request.headers().contains_key(FORWARDED) => {
                    forward(&this.roles, peer, request).await
                }
                Role::Standby(_) | Role::Waiting => unavailable("no coordinator leads now"),
                Role::Stopping => unavailable("the coordinator is stopping"),
            })
        })
    }
}

fn unavailable(message: &str) -> Response<Body> {
    Status::unavailable(message).into_http()
}

async fn forward(roles: &Roles, peer: Peer, mut request: Request<Body>) -> Response<Body> {
    request.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    // This server enforces it. The channel would report it like a failure of the leader.
    request.headers_mut().remove(GRPC_TIMEOUT);
    let mut channel = peer.channel();
    let answer = async {
        channel.ready().await?;
        channel.call(request).await
    };
    let replaced = peer.replaced();
    let answer = tokio::select! {
        answer = answer => answer,
        () = replaced.cancelled() => return unavailable("another coordinator leads now"),
    };
    match answer {
        Ok(mut response) => {
            if let Ok(address) = HeaderValue::from_str(peer.address()) {
                response.headers_mut().insert(LEADER, address);
            }
            response.map(|body| Body::new(Interrupted::new(body, replaced)))
        }
        Err(error) => {
            debug!(peer = peer.address(), %error, "the leader cannot be reached");
            roles.forget(&peer);
            unavailable("the leader cannot be reached")
        }
    }
}
