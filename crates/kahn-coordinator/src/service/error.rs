//! Errors of the service layer.

use kahn_core::Refusal;

use crate::histories::HistoryError;
use crate::inbox::RequestError;

/// The kind of an error. Each wire protocol has one code per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The request is malformed.
    Invalid,
    /// The named item does not exist.
    NotFound,
    /// A different item exists under the same name.
    Conflict,
    /// The state of the named item does not allow the request.
    WrongState,
    /// The request is larger than allowed.
    TooLarge,
    /// The sender was replaced by a newer one.
    Superseded,
    /// The coordinator is not available now; the client may retry later.
    Unavailable,
    /// A bug.
    Internal,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ServiceError {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// A message for people.
    pub message: String,
}

impl ServiceError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Returns an error about the field `field` of the request.
    pub(crate) fn invalid(field: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Invalid, format!("{field}: {reason}"))
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::UnknownRun(_) | Refusal::UnknownTask { .. } | Refusal::UnknownWorker(_) => {
                ErrorKind::NotFound
            }
            Refusal::Conflict(_) => ErrorKind::Conflict,
            Refusal::WrongState { .. } | Refusal::NothingToRetry { .. } | Refusal::Archived(_) => {
                ErrorKind::WrongState
            }
            Refusal::WrongArchive(_) => ErrorKind::Internal,
            Refusal::StaleSession => ErrorKind::Superseded,
        };
        Self::new(kind, refusal.to_string())
    }
}

impl From<HistoryError> for ServiceError {
    fn from(error: HistoryError) -> Self {
        let kind = match &error {
            HistoryError::Damaged { .. } => ErrorKind::Internal,
            HistoryError::NoStore(_)
            | HistoryError::Missing { .. }
            | HistoryError::Store { .. }
            | HistoryError::Failing { .. }
            | HistoryError::Stopping => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<RequestError> for ServiceError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(refusal) => refusal.into(),
            RequestError::Stopping => Self::new(ErrorKind::Unavailable, error.to_string()),
        }
    }
}
