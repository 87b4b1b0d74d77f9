//! Authorizes all calls in one layer around the server. Only health checks need no token.

use std::sync::Arc;
use std::task::{Context, Poll};

use kahn_runtime::token::Token;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// The calls that need no token.
const HEALTH_CHECKS: [&str; 3] =
    ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch"];

/// The tokens that authorize calls.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub client: Arc<Token>,
    pub worker: Arc<Token>,
}

impl Tokens {
    /// Returns whether a call to `path` with this `authorization` header is allowed. Health checks
    /// need no token, since they reveal only the health.
    fn admit(&self, path: &str, header: Option<&str>) -> bool {
        if HEALTH_CHECKS.contains(&path) {
            true
        } else if path.starts_with("/kahn.worker.v1.Sessions/") {
            self.worker.matches_header(header)
        } else {
            self.client.matches_header(header)
        }
    }
}

/// Wraps the server in [`Authorized`].
#[derive(Clone, Debug)]
pub(crate) struct AuthLayer(pub Tokens);

impl<S> Layer<S> for AuthLayer {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorized { inner, tokens: self.0.clone() }
    }
}

/// A service that rejects calls without the right token.
#[derive(Clone, Debug)]
pub(crate) struct Authorized<S> {
    inner: S,
    tokens: Tokens,
}

impl<S, B> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures_util::future::Either<
        S::Future,
        std::future::Ready<Result<Self::Response, Self::Error>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if self.tokens.admit(request.uri().path(), header) {
            return futures_util::future::Either::Left(self.inner.call(request));
        }
        let refusal = tonic::Status::unauthenticated("show a valid token").into_http();
        futures_util::future::Either::Right(std::future::ready(Ok(refusal)))
    }
}
