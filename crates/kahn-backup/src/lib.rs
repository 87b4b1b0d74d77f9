//! Backups: the state of a cluster in a blob store, in a format of its own.
//!
//! A backup is a group of objects. Each partition is a list of [records](kahn_store::Record), cut
//! into parts; `manifest.json` lists the parts with their sizes and hashes. It is written last, so
//! that a backup without it is not complete.
//!
//! Every part is checked against the manifest when it is read. [`Reader::check`] and [`Writer`] also
//! replay each partition, like a coordinator that recovers.

mod error;
mod manifest;
mod read;
mod replay;
mod write;

pub use error::{BackupError, Flaw};
pub use manifest::{Counts, MANIFEST, Manifest, Part, PartitionInfo};
pub use read::Reader;
pub use write::{PartitionWriter, Source, Writer};
