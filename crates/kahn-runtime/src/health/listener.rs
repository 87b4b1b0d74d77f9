//! Connection limits: their number, duration and header size.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use kahn_net::Incoming;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Concurrent connections that are served; a few more wait for that.
pub(super) const MAX_CONNECTIONS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Time until the headers of a request must be complete, including idle time before it.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum lifetime of a connection.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60);
/// Time for pending responses when the listener stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves connections until `stop`, then lets pending responses finish.
pub(super) async fn serve(mut incoming: Incoming, router: Router, stop: CancellationToken) {
    // Whoever does not use TLS where it is required is disconnected.
    incoming.plain.close();
    let builder = connection_builder();
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accept = async {
            let permit = room.clone().acquire_owned().await;
            (permit, incoming.ready.recv().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
        };
        let Some(stream) = accepted else { break };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            match timeout(MAX_CONNECTION_AGE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "health connection failed"),
                Err(_) => tracing::debug!("health connection ended for its age"),
            }
        });
    }
    incoming.accepting.stop().await;
    if timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("health connections did not end in time");
    }
}

fn connection_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    builder.http1_only()
}
