//! Protobuf messages and services, and conversions between them and the model.
//!
//! The messages are generated from the files under `proto/`, whose comments are the reference
//! documentation. [`convert`] contains all conversions.

pub mod convert;

mod generated;

pub use generated::externalscaler;
pub use generated::kahn::api::v1 as api;
pub use generated::kahn::storage::v1 as storage;
pub use generated::kahn::worker::v1 as worker;

/// The metadata of a response that came from the leader through another coordinator: the URL of the
/// leader.
pub const LEADER_HEADER: &str = "kahn-leader";

/// The encoded file descriptors of all packages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
