//! Copies the output of a container into the log of its attempt.
//!
//! Kubernetes keeps the output with the time of each line, and can return it from a second on. So
//! after a broken connection, or a restart of the worker, copying continues where it ended: lines
//! before the last one are skipped, and of those with exactly its time as many as were copied.

mod lines;
mod place;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::AsyncBufReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kahn_executor::logs::LogWriter;
use kube::Api;
use kube::api::LogParams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::lines::Lines;
pub(super) use self::place::PlaceFile;
use super::plan::CONTAINER;

/// The pause before the output is requested again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the output of a dead container is requested without an answer.
const LAST_OUTPUT: Duration = Duration::from_secs(30);

/// The output of one container.
pub(super) struct Output<'a> {
    pub(super) api: &'a Api<Pod>,
    pub(super) name: &'a str,
    pub(super) log: &'a LogWriter,
    /// Where the place is kept up to which the output was copied.
    pub(super) place: PathBuf,
}

impl Output<'_> {
    /// Copies the output until all output of the ended container was copied. With `is_resumed`, the
    /// log has the output that an earlier start of the worker has copied.
    pub(super) async fn copy(&self, is_resumed: bool, ended: &CancellationToken) {
        let mut place = PlaceFile::open(self.place.clone(), is_resumed, self.log);
        let mut lines = Lines::after(place.place());
        let mut trouble = Trouble::default();
        loop {
            let is_last = ended.is_cancelled();
            match self.copy_once(&mut lines, &mut place).await {
                Ok(()) if is_last => break,
                Ok(()) => trouble = Trouble { was_read: true, since: None },
                Err(error) => {
                    debug!(name = self.name, %error, "the output of a pod cannot be read now");
                    if is_last && trouble.is_final(&error) {
                        self.tell_end(&trouble, &error);
                        break;
                    }
                }
            }
            // The end of the stream may be that of the container, which is known in a moment.
            drop(tokio::time::timeout(PAUSE, ended.cancelled()).await);
            if is_last {
                tokio::time::sleep(PAUSE).await;
            }
        }
        place.remove();
    }

    /// Says in the log that its end is missing, unless all output was read before the pod vanished.
    fn tell_end(&self, trouble: &Trouble, error: &kube::Error) {
        if !trouble.was_read {
            warn!(name = self.name, %error, "the last output of a pod is lost");
            self.log.append(format!("[kahn] the last output is lost: {error}\n").as_bytes());
        }
    }

    /// Copies what there is, and what comes until the connection ends.
    async fn copy_once(&self, lines: &mut Lines, place: &mut PlaceFile) -> Result<(), kube::Error> {
        lines.begin();
        let request = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow: true,
            timestamps: true,
            since_time: lines.needed_since(),
            ..LogParams::default()
        };
        let mut stream = std::pin::pin!(self.api.log_stream(self.name, &request).await?);
        loop {
            let bytes = stream.fill_buf().await.map_err(kube::Error::ReadEvents)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let n_bytes = bytes.len();
            let copied = lines.push(bytes);
            stream.consume_unpin(n_bytes);
            if !copied.is_empty() {
                self.log.append(&copied);
                self.log.throttle(copied.len()).await;
            }
            if let Some(at) = lines.boundary() {
                place.keep(at, self.log.len());
            }
        }
    }
}

/// How requests for the output of a container have gone.
#[derive(Debug, Default)]
struct Trouble {
    /// Whether the latest one was answered to its end.
    was_read: bool,
    /// Since when they fail.
    since: Option<Instant>,
}

impl Trouble {
    /// Takes a failure, and returns whether the output of a dead container will never be had.
    fn is_final(&mut self, error: &kube::Error) -> bool {
        if matches!(error, kube::Error::Api(status) if status.is_not_found()) {
            return true;
        }
        self.was_read = false;
        let since = *self.since.get_or_insert_with(Instant::now);
        since.elapsed() >= LAST_OUTPUT
    }
}
