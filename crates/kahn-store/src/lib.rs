//! Durable logs of changes and their checkpoints, in memory, in an embedded database or in Redis.
//!
//! A store keeps opaque bytes. For each partition it has one log (a chain of batches, protected by
//! fencing), the blobs that batches refer to, and one checkpoint. [`LogStore`] defines what every
//! store does. [`Appender`] appends to the log of one partition for its owner.

mod chain;
pub mod codec;
mod durability;
mod error;
mod lease;
mod store;

mod export;
mod import;
mod record;

mod appender;

mod embedded;
mod local;
mod memory;
mod redis;

#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "testing")]
pub mod testing;

pub use appender::{AppendEvent, Appender, EndReason, PushError};
pub use chain::link;
pub use durability::{Durability, ParseDurabilityError};
pub use embedded::{EmbeddedImport, EmbeddedStore};
pub use error::{StoreError, UnsafeSetting};
pub use export::{Export, ExportError};
pub use import::{Import, is_restored};
pub use lease::{Claim, LEASE_TTL, Owner};
pub use memory::{MemoryImport, MemoryStore};
pub use record::{Position, Record, RecordDecoder, RecordError};
pub use redis::{RedisConfig, RedisImport, RedisStore};
pub use store::{Acquired, AppendPipe, AppendReply, Batch, ClusterId, ClusterMeta, LogStore};
