//! Errors of blob stores.

use std::fmt;
use std::time::Duration;

use crate::key::InvalidKey;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL does not name a store.
    #[error(
        "blobs.url is {0:?}; use a path, file:///path, s3://bucket/prefix, gs://bucket/prefix or \
         az://container/prefix"
    )]
    Url(String),
    /// The URL has parts that could be secret, or that are ignored.
    #[error(
        "blobs.url must have neither a user nor a query; credentials come from the environment or \
         from blobs.credentials_file"
    )]
    Credentials,
    /// The prefix within the bucket is invalid.
    #[error("the prefix in blobs.url: {0}")]
    Prefix(#[from] InvalidKey),
    /// The directory cannot be created.
    #[error("blobs.url names the directory {path}, which cannot be created: {source}")]
    Directory {
        /// The directory.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// An option is unknown to this kind of store.
    #[error("{store} has no option {option:?}; blobs.credentials_file sets it")]
    Option {
        /// The URL of the store.
        store: String,
        /// The name of the option.
        option: String,
    },
    /// The options contradict each other or are incomplete.
    #[error("blob store {store}: {source}")]
    Build {
        /// The URL of the store.
        store: String,
        /// The reason.
        source: object_store::Error,
    },
}

/// Why an operation on an object failed.
#[derive(Debug, thiserror::Error)]
#[error("{object} in {store} cannot be {verb}: {cause}")]
pub struct BlobError {
    /// The object, or the group of objects.
    pub(crate) object: String,
    /// The URL of the store.
    pub(crate) store: String,
    /// What was attempted.
    pub(crate) verb: Verb,
    pub(crate) cause: Cause,
}

/// What was attempted, as a participle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Written,
    Read,
    Listed,
    Removed,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Written => "written",
            Self::Read => "read",
            Self::Listed => "listed",
            Self::Removed => "removed",
        })
    }
}

/// The cause of a failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(
        "access is denied; check the credentials (blobs.credentials_file or the environment) and \
         what they permit: {0}"
    )]
    Denied(object_store::Error),
    #[error("the bucket or container does not exist; create it or correct blobs.url: {0}")]
    NoBucket(object_store::Error),
    #[error("{0}")]
    Other(object_store::Error),
}

impl Cause {
    pub(crate) fn of(error: object_store::Error, verb: Verb) -> Self {
        use object_store::Error as E;
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied(error),
            // A missing object is no error in these operations.
            E::NotFound { .. } if !matches!(verb, Verb::Read) => Self::NoBucket(error),
            // The only object that a list needs is the bucket, which has no error of its own.
            E::Generic { .. }
                if matches!(verb, Verb::Listed) && error.to_string().contains("404 Not Found") =>
            {
                Self::NoBucket(error)
            }
            _ => Self::Other(error),
        }
    }
}
