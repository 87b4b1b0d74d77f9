//! The routes and their access rules.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Readiness;
use crate::metrics::{Format, Metrics};
use crate::token::Token;

/// Maximum request body; valid requests have none.
const MAX_BODY_BYTES: u64 = 4 * 1024;

struct Answers {
    readiness: Readiness,
    metrics: Metrics,
    is_loopback: bool,
    token: Option<Token>,
}

impl Answers {
    /// Returns whether the caller may see more than the status: with the token, or on loopback
    /// without a configured token.
    fn may_see_data(&self, headers: &HeaderMap) -> bool {
        match &self.token {
            Some(token) => {
                let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                token.matches_header(header)
            }
            None => self.is_loopback,
        }
    }
}

pub(super) fn router(
    bound: IpAddr,
    readiness: Readiness,
    metrics: Metrics,
    token: Option<Token>,
) -> Router {
    let is_loopback = bound.to_canonical().is_loopback();
    let answers = Arc::new(Answers { readiness, metrics, is_loopback, token });
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn(refuse_large_bodies))
        .with_state(answers)
}

/// Liveness: the process responds.
async fn health() -> StatusCode {
    StatusCode::OK
}

async fn ready(State(answers): State<Arc<Answers>>, headers: HeaderMap) -> Response {
    let failing = answers.readiness.failing();
    let is_ready = failing.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !answers.may_see_data(&headers) {
        return status.into_response();
    }
    let body = serde_json::json!({ "ready": is_ready, "reasons": failing });
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn metrics_text(State(answers): State<Arc<Answers>>, headers: HeaderMap) -> Response {
    if !answers.may_see_data(&headers) {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    ([(CONTENT_TYPE, format.content_type())], answers.metrics.to_text(format)).into_response()
}

/// Bodies are never read; one that is large or of unknown size is refused.
async fn refuse_large_bodies(request: Request, next: Next) -> Response {
    match request.body().size_hint().upper() {
        Some(size) if size <= MAX_BODY_BYTES => next.run(request).await,
        _ => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    }
}
