//! Errors of calls.

use std::error::Error as _;

use kahn_net::DialError;
use kahn_proto::convert::ConvertError;
use tonic::{Code, Status};

/// The metadata key of the coordinator's advice.
const ADVICE: &str = "kahn-advice";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The coordinator or this client refuses the call. Repeating it will not help.
    #[error("{0}")]
    Refused(Refusal),
    /// The coordinator cannot be reached or does not answer in time. The call may or may not have
    /// had an effect.
    #[error("cannot reach the coordinator: {message}")]
    Unreachable {
        /// The cause.
        message: String,
    },
    /// The coordinator or this client has a bug.
    #[error("bug: {message}")]
    Bug {
        /// The unexpected condition.
        message: String,
    },
}

/// A refusal with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal.
    pub reason: Reason,
    /// A message that names the cause.
    pub message: String,
    /// Advice on how to fix it, if known.
    pub advice: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The request is invalid, such as a bad DAG file or name.
    BadRequest,
    /// The token is missing or wrong.
    Unauthenticated,
    /// The token does not permit the call.
    Forbidden,
    /// The run, task or worker does not exist.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// The call is not possible in the current state.
    Conflict,
    /// Too many requests at once, or too large a request.
    TooMuch,
    /// The coordinator does not support this call.
    Unsupported,
    /// The coordinator and this client do not trust each other's certificates.
    Untrusted,
}

impl Reason {
    /// Returns the stable name used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::TooMuch => "too_much",
            Self::Unsupported => "unsupported",
            Self::Untrusted => "untrusted",
        }
    }

    fn usual_advice(self) -> Option<&'static str> {
        match self {
            Self::Unauthenticated => Some(
                "show the coordinator's client token; it is in `client.token` in the \
                 coordinator's data directory",
            ),
            Self::Forbidden => Some("this needs the client token, not that of a worker"),
            Self::Unsupported => Some("the coordinator may be older than this client"),
            Self::TooMuch => Some("try again later, or ask for less at once"),
            Self::BadRequest
            | Self::NotFound
            | Self::AlreadyExists
            | Self::Conflict
            | Self::Untrusted => None,
        }
    }
}

impl Error {
    /// Returns whether the same call may succeed later.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Returns the refusal, if this is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unreachable { .. } | Self::Bug { .. } => None,
        }
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable { message: message.into() }
    }

    pub(crate) fn bug(message: impl Into<String>) -> Self {
        Self::Bug { message: message.into() }
    }

    pub(crate) fn refused(reason: Reason, message: impl Into<String>) -> Self {
        let advice = reason.usual_advice().map(str::to_owned);
        Self::Refused(Refusal { reason, message: message.into(), advice })
    }

    pub(crate) fn late(what: &str, deadline: std::time::Duration) -> Self {
        Self::unreachable(format!("no answer to `{what}` within {deadline:?}"))
    }

    pub(crate) fn from_transport(error: &tonic::transport::Error) -> Self {
        Self::from_connection(error)
    }

    /// Converts an error of the connection.
    fn from_connection(error: &(dyn std::error::Error + 'static)) -> Self {
        match DialError::cause_of(error) {
            Some(cause) if cause.is_local() => Self::refused(Reason::BadRequest, cause.to_string()),
            Some(cause) if cause.is_permanent() => {
                Self::refused(Reason::Untrusted, cause.to_string())
            }
            _ => Self::unreachable(chain(error)),
        }
    }

    /// Converts a status. A status that was received has no source. A status that was created
    /// locally, because the connection failed, has one.
    pub(crate) fn from_status(status: &Status) -> Self {
        if let Some(source) = status.source() {
            return Self::from_connection(source);
        }
        let message = status.message();
        let reason = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Reason::BadRequest,
            Code::Unauthenticated => Reason::Unauthenticated,
            Code::PermissionDenied => Reason::Forbidden,
            Code::NotFound => Reason::NotFound,
            Code::AlreadyExists => Reason::AlreadyExists,
            Code::FailedPrecondition => Reason::Conflict,
            Code::ResourceExhausted => Reason::TooMuch,
            Code::Unimplemented => Reason::Unsupported,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
                return Self::unreachable(message);
            }
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Ok => {
                return Self::bug(format!(
                    "the coordinator answered {:?}: {message}",
                    status.code()
                ));
            }
        };
        let said = status.metadata().get(ADVICE).and_then(|value| value.to_str().ok());
        let advice = said.or(reason.usual_advice()).map(str::to_owned);
        Self::Refused(Refusal { reason, message: message.to_owned(), advice })
    }
}

impl From<ConvertError> for Error {
    fn from(error: ConvertError) -> Self {
        Self::bug(format!("the coordinator sent an invalid message: {error}"))
    }
}

/// Formats an error and its sources, without repetitions.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_becomes_one_of_the_three_kinds() {
        let kind = |code| match Error::from_status(&Status::new(code, "x")) {
            Error::Refused(refusal) => refusal.reason.as_str(),
            Error::Unreachable { .. } => "unreachable",
            Error::Bug { .. } => "bug",
        };
        for (code, expected) in [
            (Code::InvalidArgument, "bad_request"),
            (Code::Unauthenticated, "unauthenticated"),
            (Code::PermissionDenied, "forbidden"),
            (Code::NotFound, "not_found"),
            (Code::FailedPrecondition, "conflict"),
            (Code::ResourceExhausted, "too_much"),
            (Code::Unimplemented, "unsupported"),
            (Code::Unavailable, "unreachable"),
            (Code::DeadlineExceeded, "unreachable"),
            (Code::Internal, "bug"),
            (Code::Unknown, "bug"),
        ] {
            assert_eq!(kind(code), expected, "{code:?}");
        }
    }

    #[test]
    fn the_coordinators_advice_goes_before_the_usual_one() {
        let mut status = Status::unauthenticated("token expired");
        status.metadata_mut().insert(ADVICE, "ask for a new one".parse().unwrap());
        let error = Error::from_status(&status);
        assert_eq!(error.to_string(), "token expired");
        assert_eq!(error.refusal().unwrap().advice.as_deref(), Some("ask for a new one"));
        let plain = Error::from_status(&Status::unauthenticated("token expired"));
        assert!(plain.refusal().unwrap().advice.as_deref().unwrap().contains("client.token"));
    }
}
