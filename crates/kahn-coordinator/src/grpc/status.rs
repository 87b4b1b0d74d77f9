//! Reasons as gRPC statuses.

use tonic::{Code, Status};

use super::wire::Unreadable;
use crate::service::{ErrorKind, ServiceError};

/// Longest message of a status, in bytes: statuses travel in headers, whose size is bounded.
const MESSAGE_BYTES_MAX: usize = 3 << 10;

/// The status for a request that was not carried out.
pub(super) fn from_error(error: ServiceError) -> Status {
    Status::new(code(error.kind), cut(error.message))
}

/// The status for a message that cannot be read.
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

/// Cuts a text to what a header may hold.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let is_end = |at: &usize| text.is_char_boundary(*at);
        text.truncate((0..=MESSAGE_BYTES_MAX).rev().find(is_end).unwrap_or(0));
        text.push_str("\n(and more; validate the file to see all)");
    }
    text
}
