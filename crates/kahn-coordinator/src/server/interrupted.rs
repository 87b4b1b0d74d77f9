//! The body of a forwarded response.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;
use tonic::codegen::http::HeaderMap;
use tracing::debug;

/// A body that ends with the status `UNAVAILABLE` if the peer that it comes from is lost or
/// replaced.
///
/// Without this, the client would see an internal error of HTTP/2 and not know that it may retry,
/// or wait for a coordinator that has nothing more to say.
pub(super) struct Interrupted {
    inner: Body,
    replaced: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
}

impl Interrupted {
    pub(super) fn new(inner: Body, replaced: CancellationToken) -> Self {
        Self { inner, replaced: Box::pin(replaced.cancelled_owned()), is_over: false }
    }

    fn end(&mut self, why: &str) -> Result<Frame<Bytes>, Status> {
        debug!(why, "a forwarded stream ends");
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        Status::unavailable(why).add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupted").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl HttpBody for Interrupted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => match self.replaced.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(self.end("another coordinator leads now"))),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(self.end("the leader was lost"))),
            ready => ready,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }
}
