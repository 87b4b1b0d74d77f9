//! The size limit of messages, and the status for a message that exceeds it.

use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::{Code, Status, Streaming};
use tower::util::MapResponseLayer;

/// Replaces the status for messages that are too large. See [`too_large`].
pub(crate) type MessageLimitLayer = MapResponseLayer<fn(Response<Body>) -> Response<Body>>;

/// Returns the layer that replaces the status for requests that are too large.
pub(crate) fn message_limit_layer() -> MessageLimitLayer {
    MapResponseLayer::new(response)
}

/// Returns the next message of a stream.
pub(super) async fn next<T>(inbound: &mut Streaming<T>) -> Result<Option<T>, Status> {
    inbound.message().await.map_err(|status| match status.code() {
        Code::OutOfRange => too_large(&status),
        _ => status,
    })
}

fn response(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => too_large(&status).into_http(),
        _ => response,
    }
}

/// The decoder returns `OUT_OF_RANGE` for a message over the limit, and nothing else here does. The
/// proper code is `RESOURCE_EXHAUSTED`, and the message should name the limit.
fn too_large(status: &Status) -> Status {
    // The decoder's text contains both sizes: that of the message and the limit.
    let sizes = status.message().rsplit_once("too large: ").map_or("", |(_, sizes)| sizes);
    let message = format!("the message is too large (coordinator.limits.message_bytes): {sizes}");
    Status::resource_exhausted(message)
}
