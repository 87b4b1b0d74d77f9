//! The body of a forwarded response.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;
use tonic::codegen::http::HeaderMap;
use tracing::debug;

/// A body that ends with the status `UNAVAILABLE` if the peer is lost while it is received.
///
/// Without this, the client would see an internal error of HTTP/2, and not know that it may retry.
#[derive(Debug)]
pub(super) struct Interrupted {
    inner: Body,
    is_over: bool,
}

impl Interrupted {
    pub(super) fn new(inner: Body) -> Self {
        Self { inner, is_over: false }
    }
}

impl HttpBody for Interrupted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                debug!(%error, "a forwarded stream was interrupted");
                self.is_over = true;
                let status = Status::unavailable("the leader was lost");
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers)?;
                Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }
}
