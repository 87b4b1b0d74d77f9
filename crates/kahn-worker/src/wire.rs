//! Converts between protocol messages and the types of the worker's core.

use std::sync::Arc;

use kahn_model::{
    ActionKind, AttemptId, BootId, Namespace, Resources, RunId, TaskIx, Timeouts, Token, Work,
    WorkerId,
};
use kahn_proto::convert::{self, ConvertError};
use kahn_proto::worker;
use kahn_worker_core::{Inventory, Lease, Report, ReportKind, StopReason};
use prost::Message as _;

/// The part of a lease that the executor needs.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// `None` if the coordinator is too old to send it.
    pub namespace: Option<Namespace>,
    pub name: Arc<str>,
    pub work: Arc<Work>,
    pub timeouts: Timeouts,
}

/// The reason that a message is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0}: missing or not valid")]
    Part(&'static str),
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error("assignment: {0}")]
    Assignment(#[from] prost::DecodeError),
}

/// Decodes assignments. Consecutive leases often share the same bytes, which are decoded once.
#[derive(Debug, Default)]
pub(crate) struct Assignments {
    latest: Option<(bytes::Bytes, Decoded)>,
}

#[derive(Clone, Debug)]
struct Decoded {
    namespace: Option<Namespace>,
    work: Arc<Work>,
    resources: Arc<Resources>,
    timeouts: Timeouts,
    on_disconnect: kahn_model::OnDisconnect,
}

impl Assignments {
    fn decode(&mut self, bytes: bytes::Bytes) -> Result<Decoded, Unreadable> {
        if let Some((known, decoded)) = &self.latest
            && *known == bytes
        {
            return Ok(decoded.clone());
        }
        let assignment = worker::Assignment::decode(bytes.clone())?;
        let work = assignment.work.ok_or(Unreadable::Part("assignment.work"))?;
        let resources = assignment.resources.unwrap_or_default();
        let namespace = assignment.namespace.map(|name| name.parse());
        let decoded = Decoded {
            namespace: namespace
                .transpose()
                .map_err(|_| Unreadable::Part("assignment.namespace"))?,
            work: Arc::new(convert::work::from_wire(work)?),
            resources: Arc::new(convert::resources::from_wire(resources)?),
            timeouts: assignment
                .timeouts
                .as_ref()
                .map(convert::profile::timeouts_from_wire)
                .unwrap_or_default(),
            on_disconnect: convert::profile::on_disconnect_from_wire(assignment.on_disconnect)?,
        };
        self.latest = Some((bytes, decoded.clone()));
        Ok(decoded)
    }

    /// Decodes a lease.
    pub(crate) fn lease(&mut self, lease: worker::Lease) -> Result<Lease<Task>, Unreadable> {
        let (attempt, token) = lease_from_wire(lease.id)?;
        let decoded = self.decode(lease.assignment)?;
        Ok(Lease {
            attempt,
            token,
            resources: decoded.resources,
            on_disconnect: decoded.on_disconnect,
            payload: Task {
                namespace: decoded.namespace,
                name: lease.task_name.into(),
                work: decoded.work,
                timeouts: decoded.timeouts,
            },
        })
    }
}

/// Encodes a lease.
pub(crate) fn lease_to_wire(lease: &Lease<Task>) -> worker::Lease {
    let Task { namespace, name, work, timeouts } = &lease.payload;
    let assignment = worker::Assignment {
        work: Some(convert::work::to_wire(work)),
        resources: Some(convert::resources::to_wire(&lease.resources)),
        timeouts: Some(convert::profile::timeouts_to_wire(timeouts)),
        on_disconnect: convert::profile::on_disconnect_to_wire(lease.on_disconnect).into(),
        namespace: namespace.as_ref().map(ToString::to_string),
    };
    worker::Lease {
        id: Some(lease_id(lease.attempt, lease.token)),
        task_name: name.to_string(),
        assignment: assignment.encode_to_vec().into(),
    }
}

/// Encodes the ID of a lease.
pub(crate) fn lease_id(attempt: AttemptId, token: Token) -> worker::LeaseId {
    worker::LeaseId {
        run: bytes::Bytes::copy_from_slice(attempt.run.as_bytes()),
        task: attempt.task.0,
        number: attempt.number,
        token: Some(convert::ids::token_to_wire(token)),
    }
}

/// Decodes the ID of a lease into its attempt and token.
pub(crate) fn lease_from_wire(
    lease: Option<worker::LeaseId>,
) -> Result<(AttemptId, Token), Unreadable> {
    let lease = lease.ok_or(Unreadable::Part("lease"))?;
    let run = RunId::from_slice(&lease.run).ok_or(Unreadable::Part("lease.run"))?;
    let token = convert::ids::token_from_wire("lease.token", lease.token)?;
    Ok((AttemptId { run, task: TaskIx(lease.task), number: lease.number }, token))
}

/// Decodes the token from the ID of a lease.
pub(crate) fn token_of(lease: Option<worker::LeaseId>) -> Result<Token, Unreadable> {
    lease_from_wire(lease).map(|(_, token)| token)
}

/// Decodes a stop reason.
pub(crate) fn stop_reason(reason: i32) -> Result<StopReason, Unreadable> {
    match worker::StopReason::try_from(reason) {
        Ok(worker::StopReason::Cancelled) => Ok(StopReason::Cancelled),
        Ok(worker::StopReason::TimedOut) => Ok(StopReason::TimedOut),
        Ok(worker::StopReason::Superseded) => Ok(StopReason::Superseded),
        Ok(worker::StopReason::Unspecified) | Err(_) => Err(Unreadable::Part("stop.reason")),
    }
}

/// Encodes a report.
pub(crate) fn report_to_wire(report: &Report) -> worker::Report {
    let kind = match &report.kind {
        ReportKind::Started => worker::report::Kind::Started(worker::Started {}),
        ReportKind::Returned => worker::report::Kind::Returned(worker::Returned {}),
        ReportKind::Finished { outcome, usage, is_output_late } => {
            let (failure, outputs) = match outcome {
                Ok(outputs) if outputs.0.is_empty() => (None, None),
                Ok(outputs) => (None, Some(convert::report::outputs_to_wire(outputs))),
                Err(failure) => (Some(convert::report::failure_to_wire(failure)), None),
            };
            let usage = Some(convert::report::usage_to_wire(usage));
            let is_output_late = *is_output_late;
            let finished = worker::Finished { failure, outputs, usage, is_output_late };
            worker::report::Kind::Finished(finished)
        }
    };
    worker::Report { lease: Some(lease_id(report.attempt, report.token)), kind: Some(kind) }
}

/// Decodes a final report from the spool.
pub(crate) fn report_from_wire(report: worker::Report) -> Result<Report, Unreadable> {
    let (attempt, token) = lease_from_wire(report.lease)?;
    let Some(worker::report::Kind::Finished(finished)) = report.kind else {
        return Err(Unreadable::Part("report.kind"));
    };
    let outcome = match finished.failure {
        Some(failure) => Err(convert::report::failure_from_wire(&failure)?),
        None => Ok(convert::report::outputs_from_wire(finished.outputs.unwrap_or_default())?),
    };
    let usage = finished.usage.as_ref().map(convert::report::usage_from_wire).unwrap_or_default();
    let is_output_late = finished.is_output_late;
    Ok(Report { attempt, token, kind: ReportKind::Finished { outcome, usage, is_output_late } })
}

/// The properties of a worker that do not change while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub worker: WorkerId,
    pub boot: BootId,
    pub capacity: Resources,
    pub labels: std::collections::BTreeMap<String, String>,
    pub executors: Vec<ActionKind>,
    pub leases_max: u32,
}

/// Builds the first message of a stream.
pub(crate) fn hello(
    identity: &Identity,
    inventory: &Inventory,
    unstored_logs: Vec<worker::LeaseId>,
) -> worker::Hello {
    let held = inventory.held.iter().map(|held| worker::Held {
        lease: Some(lease_id(held.attempt, held.token)),
        is_started: held.is_started,
    });
    worker::Hello {
        protocol: 1,
        worker: identity.worker.to_string(),
        boot: identity.boot.0,
        capacity: Some(convert::resources::to_wire(&identity.capacity)),
        labels: identity.labels.clone().into_iter().collect(),
        executors: identity.executors.iter().map(ToString::to_string).collect(),
        leases_max: identity.leases_max,
        held: held.collect(),
        unacknowledged: inventory.unacknowledged.iter().map(report_to_wire).collect(),
        is_draining: inventory.is_draining,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        admission: Some(convert::admission::to_wire(&inventory.admission)),
        unstored_logs,
    }
}
