//! Exports a partition, for backups.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kahn_model::Partition;
use kahn_store::{ClusterId, Export, ExportError, LogStore, Record};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{ErrorKind, Service, ServiceError};
use crate::holds::{Hold, Holds};

/// Bytes in a piece.
const PIECE_BYTES: usize = 512 << 10;
/// Maximum number of pieces that wait for a slow client.
const PIECES_MAX: usize = 2;
/// Maximum number of exports at a time. Each takes the memory of a checkpoint's manifest and of a few
/// megabytes, and delays checkpoints.
const EXPORTS_MAX: usize = 2;
/// How long a client may take for a piece.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long the partition is held for a client. Afterwards the export goes on, and begins again if it
/// meets a checkpoint.
const HOLD_MAX: Duration = Duration::from_secs(600);

/// What exports need. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Exports {
    store: Arc<dyn LogStore>,
    holds: Holds,
    room: Arc<Semaphore>,
}

impl Exports {
    pub(crate) fn new(store: Arc<dyn LogStore>, holds: Holds) -> Self {
        Self { store, holds, room: Arc::new(Semaphore::new(EXPORTS_MAX)) }
    }
}

/// The records of a partition, in pieces.
#[derive(Debug)]
pub(crate) struct Exported {
    /// The id of the cluster.
    pub cluster: ClusterId,
    /// The number of partitions.
    pub partitions: u16,
    /// The pieces, and `None` at the end. Without it, pieces are missing.
    pub pieces: mpsc::Receiver<Result<Option<Bytes>, ServiceError>>,
}

impl Service {
    /// Exports a partition as it is at one moment after this call began.
    pub(crate) async fn export(&self, partition: u32) -> Result<Exported, ServiceError> {
        let Exports { store, holds, room } = self.exports.clone();
        let meta = store.meta();
        let known = u16::try_from(partition).ok().filter(|number| *number < meta.partitions);
        let partition = known.map(Partition).ok_or_else(|| {
            let last = meta.partitions - 1;
            ServiceError::invalid("partition", format!("{partition} is not between 0 and {last}"))
        })?;
        let permit = room.try_acquire_owned().map_err(|_| {
            let message = format!(
                "{EXPORTS_MAX} partitions are being exported, and no more are at a time; try again \
                 when one of the other backups has ended"
            );
            ServiceError::new(ErrorKind::TooLarge, message)
        })?;
        let hold = holds.hold(partition);
        let export = Export::begin(store, partition).await?;
        let (tx, pieces) = mpsc::channel(PIECES_MAX);
        let service = self.clone();
        let exporter = Exporter {
            service,
            export,
            tx,
            buffer: BytesMut::new(),
            hold: Some(hold),
            held_since: Instant::now(),
            _permit: permit,
        };
        tokio::spawn(exporter.run(partition));
        Ok(Exported { cluster: meta.id, partitions: meta.partitions, pieces })
    }
}

struct Exporter {
    service: Service,
    export: Export,
    tx: mpsc::Sender<Result<Option<Bytes>, ServiceError>>,
    buffer: BytesMut,
    hold: Option<Hold>,
    held_since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Why nothing more is sent: the client has gone, or takes too long.
struct Gone;

impl Exporter {
    async fn run(mut self, partition: Partition) {
        let failed = loop {
            let record = match self.next().await {
                Ok(Some(record)) => record,
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            self.buffer.extend_from_slice(&record.encode());
            while PIECE_BYTES <= self.buffer.len() {
                let piece = self.buffer.split_to(PIECE_BYTES).freeze();
                if self.send(Ok(Some(piece))).await.is_err() {
                    debug!(%partition, "the client does not want the rest of an export");
                    return;
                }
            }
        };
        let sent = match failed {
            None => self.end().await,
            Some(error) => {
                warn!(%partition, %error, "a partition could not be exported");
                self.send(Err(error)).await
            }
        };
        if sent.is_err() {
            debug!(%partition, "the client does not want the end of an export");
        }
    }

    async fn end(&mut self) -> Result<(), Gone> {
        let last = self.buffer.split().freeze();
        self.send(Ok(Some(last))).await?;
        self.send(Ok(None)).await
    }

    /// Returns the next record. The end follows only if this coordinator has led all the time:
    /// otherwise the store may be one that has been replaced.
    async fn next(&mut self) -> Result<Option<Record>, ServiceError> {
        if HOLD_MAX < self.held_since.elapsed() {
            self.hold = None;
        }
        let record = self.export.next().await?;
        if let Some(Record::End(_)) = record {
            self.service.handle.query(|_| ()).await?;
        }
        Ok(record)
    }

    async fn send(&self, piece: Result<Option<Bytes>, ServiceError>) -> Result<(), Gone> {
        match tokio::time::timeout(STALL_MAX, self.tx.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

impl From<ExportError> for ServiceError {
    fn from(error: ExportError) -> Self {
        let kind = match &error {
            ExportError::Changed { .. } => ErrorKind::Superseded,
            ExportError::Store(_) => ErrorKind::Unavailable,
            ExportError::Document { .. } => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
