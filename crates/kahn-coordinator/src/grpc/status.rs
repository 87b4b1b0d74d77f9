//! Converts errors into gRPC statuses.

use tonic::{Code, Status};

use super::wire::Unreadable;
use crate::service::{ErrorKind, ServiceError};

/// Maximum length of a status message, in bytes; statuses are sent in headers of limited size.
const MESSAGE_BYTES_MAX: usize = 3 << 10;

/// Returns the status for a request that failed.
pub(super) fn from_error(error: ServiceError) -> Status {
    Status::new(code(error.kind), cut(error.message))
}

/// Returns the status for a message that cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
pub(super) fn unreadable(error: Unreadable) -> Status {
    Status::invalid_argument(error.to_string())
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::WrongState => Code::FailedPrecondition,
        ErrorKind::TooLarge => Code::ResourceExhausted,
        ErrorKind::Superseded => Code::Aborted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Truncates a text to fit into a header.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let is_end = |at: &usize| text.is_char_boundary(*at);
        text.truncate((0..=MESSAGE_BYTES_MAX).rev().find(is_end).unwrap_or(0));
        text.push_str("\n(and more; validate the file to see all)");
    }
    text
}
