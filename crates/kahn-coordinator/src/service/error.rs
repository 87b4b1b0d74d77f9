//! Why a request was not carried out.

use kahn_core::Refusal;

use crate::inbox::RequestError;

/// What kind of reason it is. Each wire has one code for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The request cannot be understood.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// Something else exists under the same name.
    Conflict,
    /// What it names is in a state that does not allow it.
    WrongState,
    /// It is larger than allowed.
    TooLarge,
    /// The sender has been replaced by a later one.
    Superseded,
    /// The coordinator cannot answer now; a later attempt may succeed.
    Unavailable,
    /// A bug.
    Internal,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ServiceError {
    /// What kind of reason it is.
    pub kind: ErrorKind,
    /// The reason, for people.
    pub message: String,
}

impl ServiceError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The field `field` of the request cannot be used.
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
            Refusal::WrongState { .. } | Refusal::NothingToRetry { .. } => ErrorKind::WrongState,
            Refusal::StaleSession => ErrorKind::Superseded,
        };
        Self::new(kind, refusal.to_string())
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
