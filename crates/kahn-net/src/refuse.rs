//! What is said to clients that do not use TLS although they have to.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::transport::Server;

use crate::stream::Stream;

/// How long a connection without TLS may be used if the socket requires it. It is closed by force
/// after twice as long.
const REFUSING_FOR: Duration = Duration::from_secs(1);

/// Answers each gRPC call on connections without TLS that they have to use it.
pub async fn refuse_plain(connections: mpsc::Receiver<Stream>) {
    let answer = tower::service_fn(|_: Request<Body>| async {
        let advice = "this port requires TLS; write https:// for it instead of http://";
        Ok::<_, Infallible>(Status::failed_precondition(advice).into_http::<Body>())
    });
    let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    let server =
        Server::builder().max_connection_age(REFUSING_FOR).max_connection_age_grace(REFUSING_FOR);
    // Nothing depends on it.
    drop(server.serve_with_incoming(answer, incoming).await);
}
