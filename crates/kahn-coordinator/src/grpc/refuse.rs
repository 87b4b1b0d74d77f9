//! How every "no" of the coordinator looks on the wire.

use kahn_core::Refusal;
use tonic::{Code, Status};

use crate::driver::RequestError;

/// The status that stands for a request that was not carried out.
pub(super) fn status(error: RequestError) -> Status {
    match error {
        RequestError::Refused(refusal) => Status::new(code(&refusal), refusal.to_string()),
        RequestError::Stopping => Status::unavailable(error.to_string()),
    }
}

fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::UnknownRun(_) | Refusal::UnknownTask { .. } | Refusal::UnknownWorker(_) => {
            Code::NotFound
        }
        Refusal::Conflict(_) => Code::AlreadyExists,
        Refusal::WrongState { .. } | Refusal::NothingToRetry { .. } => Code::FailedPrecondition,
        Refusal::StaleSession => Code::Aborted,
    }
}

/// The status for an argument that cannot be read.
pub(super) fn invalid(what: &str, error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{what}: {error}"))
}
