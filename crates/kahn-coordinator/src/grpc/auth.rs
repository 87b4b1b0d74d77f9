//! Authorizes all calls in one layer around the server. Only health checks need no token.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use kahn_net::PeerInfo;
use kahn_runtime::token::Token;
use tonic::Status;
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
    fn match_header(&self, path: &str, header: Option<&str>) -> bool {
        if HEALTH_CHECKS.contains(&path) {
            true
        } else if is_from_worker(path) {
            self.worker.matches_header(header)
        } else {
            self.client.matches_header(header)
        }
    }
}

fn is_from_worker(path: &str) -> bool {
    path.starts_with("/kahn.worker.v1.Sessions/")
}

/// Wraps the server in [`Authorized`].
#[derive(Clone, Debug)]
pub(crate) struct AuthLayer {
    pub tokens: Tokens,
    /// Whether workers also have to show a certificate.
    pub needs_worker_certificate: bool,
}

impl AuthLayer {
    fn admit<B>(&self, request: &Request<B>) -> Result<(), Status> {
        let path = request.uri().path();
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if !self.tokens.match_header(path, header) {
            return Err(Status::unauthenticated("show a valid token"));
        }
        let peer = request.extensions().get::<PeerInfo>();
        let has_certificate = peer.is_some_and(|peer| peer.has_certificate);
        if self.needs_worker_certificate && is_from_worker(path) && !has_certificate {
            return Err(Status::permission_denied(
                "workers have to show a certificate; set worker.tls.cert_file and \
                 worker.tls.key_file",
            ));
        }
        Ok(())
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorized { inner, auth: self.clone() }
    }
}

/// A service that rejects calls without the right token or certificate.
#[derive(Clone, Debug)]
pub(crate) struct Authorized<S> {
    inner: S,
    auth: AuthLayer,
}

impl<S, B> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, std::future::Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.auth.admit(&request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refusal) => Either::Right(std::future::ready(Ok(refusal.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use kahn_runtime::secret::Secret;
    use tonic::Code;

    use super::*;

    fn token(digit: &str) -> Arc<Token> {
        Arc::new(Token::from_secret(&Secret::new(digit.repeat(40)), "test").unwrap())
    }

    fn request(path: &str, token: &Token, has_certificate: Option<bool>) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().unwrap();
        let header = token.to_header().expose().parse().unwrap();
        request.headers_mut().insert("authorization", header);
        if let Some(has_certificate) = has_certificate {
            request.extensions_mut().insert(PeerInfo { address: None, has_certificate });
        }
        request
    }

    #[test]
    fn workers_need_a_certificate_beside_their_token_if_one_is_required() {
        let tokens = Tokens { client: token("c"), worker: token("d") };
        let (attach, list) = ("/kahn.worker.v1.Sessions/Attach", "/kahn.api.v1.Runs/List");
        let code = |needs_worker_certificate, request: &Request<()>| {
            let auth = AuthLayer { tokens: tokens.clone(), needs_worker_certificate };
            auth.admit(request).map_err(|status| status.code())
        };
        let with = request(attach, &tokens.worker, Some(true));
        let without = request(attach, &tokens.worker, Some(false));
        let unknown = request(attach, &tokens.worker, None);
        assert_eq!(code(true, &with), Ok(()));
        assert_eq!(code(true, &without), Err(Code::PermissionDenied));
        assert_eq!(code(true, &unknown), Err(Code::PermissionDenied));
        assert_eq!(code(false, &unknown), Ok(()));
        let of_client = request(attach, &tokens.client, Some(true));
        assert_eq!(code(true, &of_client), Err(Code::Unauthenticated));
        assert_eq!(code(true, &request(list, &tokens.client, Some(false))), Ok(()));
    }
}
