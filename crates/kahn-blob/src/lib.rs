//! Objects that outlive a host: whole values under names, in a directory, S3, Google Cloud Storage
//! or Azure.
//!
//! [`BlobStore`] reduces `object_store` to the operations that Kahn uses, with names that are valid
//! in every store, limits on time and retries, and errors that name the object and the store. It
//! does not know what the objects contain.

mod error;
mod key;
mod open;
mod store;

#[cfg(feature = "testing")]
pub mod testing;

pub use error::{BlobError, OpenError};
pub use key::{InvalidKey, Key};
pub use open::Settings;
pub use store::{BlobStore, Entry};
