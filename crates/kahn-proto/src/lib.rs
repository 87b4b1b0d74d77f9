//! The protobuf messages and services, and their conversions to and from the model.
//!
//! The messages are generated from the files under `proto/`, whose comments are the reference.
//! [`convert`] alone knows both them and the model.

pub mod convert;

mod generated;

pub use generated::kahn::api::v1 as api;
pub use generated::kahn::storage::v1 as storage;
pub use generated::kahn::worker::v1 as worker;

/// All files of all packages, encoded, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
