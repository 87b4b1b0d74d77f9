//! Converts between worker messages and inputs of the driver.

use kahn_core::{Attachment, Held, ReportKind, SessionId, WorkerReport};
use kahn_model::{ActionKind, Admission, AttemptId, BootId, RunId, TaskIx, Token, limits};
use kahn_proto::convert::{self, ConvertError};
use kahn_proto::worker::{self, worker_message::Message};

use crate::inbox::Input;

/// Returns the wire format of a lease.
pub(crate) fn lease_id(attempt: AttemptId, token: Token) -> worker::LeaseId {
    worker::LeaseId {
        run: bytes::Bytes::copy_from_slice(attempt.run.as_bytes()),
        task: attempt.task.0,
        number: attempt.number,
        token: Some(convert::ids::token_to_wire(token)),
    }
}

/// Why a worker message cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A field is missing or invalid.
    #[error("{0}: missing or not valid")]
    Part(&'static str),
    /// A model value is invalid.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The first message is not a hello, or a later one is.
    #[error("hello comes first and once")]
    OutOfTurn,
    /// A list is longer than allowed.
    #[error("more {what} than the {max} allowed")]
    TooMany { what: &'static str, max: usize },
}

/// Returns the attempt and the token of a lease.
pub(crate) fn lease_from_wire(
    lease: Option<worker::LeaseId>,
) -> Result<(AttemptId, Token), Unreadable> {
    let lease = lease.ok_or(Unreadable::Part("lease"))?;
    let run = RunId::from_slice(&lease.run).ok_or(Unreadable::Part("lease.run"))?;
    let token = convert::ids::token_from_wire("lease.token", lease.token)?;
    let attempt = AttemptId { run, task: TaskIx(lease.task), number: lease.number };
    Ok((attempt, token))
}

/// Converts a worker's report.
pub(crate) fn report(report: worker::Report) -> Result<WorkerReport, Unreadable> {
    let (attempt, token) = lease_from_wire(report.lease)?;
    let kind = match report.kind.ok_or(Unreadable::Part("report.kind"))? {
        worker::report::Kind::Started(_) => ReportKind::Started,
        worker::report::Kind::Returned(_) => ReportKind::Returned,
        worker::report::Kind::Finished(finished) => {
            let outcome = match finished.failure {
                Some(failure) => Err(convert::report::failure_from_wire(&failure)?),
                None => {
                    let outputs = finished.outputs.unwrap_or_default();
                    let outputs = convert::report::outputs_from_wire(outputs)?;
                    if !outputs.is_within_limit() {
                        let max = limits::OUTPUT_BYTES_MAX;
                        return Err(Unreadable::TooMany { what: "bytes of outputs", max });
                    }
                    Ok(outputs)
                }
            };
            let usage =
                finished.usage.as_ref().map(convert::report::usage_from_wire).unwrap_or_default();
            ReportKind::Finished { outcome, usage }
        }
    };
    Ok(WorkerReport { attempt, token, kind })
}

/// Converts a worker's hello.
pub(crate) fn attachment(
    session: SessionId,
    hello: worker::Hello,
) -> Result<Attachment, Unreadable> {
    if hello.protocol != 1 {
        return Err(Unreadable::Part("hello.protocol: this coordinator speaks version 1"));
    }
    if hello.labels.len() > limits::LABELS_MAX {
        return Err(Unreadable::TooMany { what: "labels", max: limits::LABELS_MAX });
    }
    let held = hello.held.into_iter().map(|held| {
        let (attempt, token) = lease_from_wire(held.lease)?;
        Ok(Held { attempt, token, is_started: held.is_started })
    });
    let capacity = hello.capacity.ok_or(Unreadable::Part("hello.capacity"))?;
    let executors = ActionKind::ALL
        .into_iter()
        .filter(|kind| hello.executors.iter().any(|name| name == kind.as_str()));
    Ok(Attachment {
        session,
        worker: hello.worker.parse().map_err(|_| Unreadable::Part("hello.worker"))?,
        boot: BootId(hello.boot),
        capacity: convert::resources::from_wire(capacity)?,
        leases_max: hello.leases_max,
        labels: hello.labels.into_iter().collect(),
        executors: executors.collect(),
        admission: admission(hello.admission)?,
        held: held.collect::<Result<_, Unreadable>>()?,
        unacknowledged: hello
            .unacknowledged
            .into_iter()
            .map(report)
            .collect::<Result<_, Unreadable>>()?,
    })
}

/// Converts a worker's admission; everything is accepted if it is missing.
fn admission(said: Option<worker::Admission>) -> Result<Admission, Unreadable> {
    Ok(said.map(convert::admission::from_wire).transpose()?.unwrap_or_default())
}

/// Converts a message that follows the hello.
pub(crate) fn input(
    session: SessionId,
    message: worker::WorkerMessage,
) -> Result<Input, Unreadable> {
    Ok(match message.message {
        Some(Message::Reports(reports)) => {
            let reports = reports.reports.into_iter().map(report).collect::<Result<_, _>>()?;
            Input::Reports { session, reports }
        }
        Some(Message::Heartbeat(heartbeat)) => {
            Input::Heartbeat { session, number: heartbeat.number }
        }
        Some(Message::Admission(said)) => {
            Input::Admission { session, admission: admission(Some(said))? }
        }
        Some(Message::Draining(_)) => Input::Draining { session },
        Some(Message::Hello(_)) | None => return Err(Unreadable::OutOfTurn),
    })
}
