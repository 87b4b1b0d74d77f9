//! The summaries of archived runs in a checkpoint.

use bytes::Bytes;
use kahn_core::{ArchivedRun, Counts};
use kahn_model::{TaskState, Timestamp};
use kahn_proto::convert::{ConvertError, ids, report, state};
use kahn_proto::storage as wire;

use crate::codec::frame::{self, Document};
use crate::codec::{CodecError, archive, blob, submission};

/// Adds the summaries to `blobs`; returns `None` if there are none.
pub(super) fn put(
    archived: &[ArchivedRun],
    blobs: &mut Vec<(String, Bytes)>,
) -> Option<wire::BlobRef> {
    if archived.is_empty() {
        return None;
    }
    let message = wire::ArchivedRuns { runs: archived.iter().map(to_wire).collect() };
    Some(blob::put(&frame::seal(Document::ArchivedRuns, &message), blobs))
}

/// Fetches and decodes the summaries.
pub(super) fn get(
    reference: &wire::BlobRef,
    fetch: &mut impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Vec<ArchivedRun>, CodecError> {
    let document = blob::get(reference, fetch)?;
    let message: wire::ArchivedRuns = frame::open(Document::ArchivedRuns, &document)?;
    message.runs.into_iter().map(from_wire).collect()
}

fn to_wire(run: &ArchivedRun) -> wire::ArchivedRun {
    wire::ArchivedRun {
        run: ids::run_to_wire(run.run),
        namespace: run.namespace.as_str().to_owned(),
        dag: run.dag.as_str().to_owned(),
        labels: submission::labels_to_wire(&run.labels),
        digest: Bytes::copy_from_slice(&run.digest),
        state: state::run_state_number(run.state).into(),
        submitted_at: run.submitted_at.0,
        finished_at: run.finished_at.map(|at| at.0),
        cancelled: run.cancelled.as_ref().map(report::failure_to_wire),
        counts: run.counts.to_vec(),
        records: u64::try_from(run.n_records).expect("invariant: u64 holds usize"),
        archive: Some(archive::reference_to_wire(run.archive)),
    }
}

fn from_wire(run: wire::ArchivedRun) -> Result<ArchivedRun, CodecError> {
    let missing = |field| ConvertError::Missing { field };
    let archive = run.archive.ok_or_else(|| missing("archived_run.archive"))?;
    let records = run.records;
    let n_records = usize::try_from(records).map_err(|_| ConvertError::OutOfRange {
        field: "archived_run.records",
        found: i64::try_from(records).unwrap_or(i64::MAX),
        limit: i64::try_from(usize::MAX).unwrap_or(i64::MAX),
    })?;
    Ok(ArchivedRun {
        run: ids::run_from_wire("archived_run.run", &run.run)?,
        namespace: ids::namespace("archived_run.namespace", &run.namespace)?,
        dag: ids::name("archived_run.dag", &run.dag)?,
        labels: submission::labels_from_wire("archived_run.labels", run.labels)?,
        digest: archive::digest_from_wire("archived_run.digest", &run.digest)?,
        state: state::run_state("archived_run.state", run.state)?,
        submitted_at: Timestamp(run.submitted_at),
        finished_at: run.finished_at.map(Timestamp),
        cancelled: run.cancelled.as_ref().map(report::failure_from_wire).transpose()?,
        counts: counts_from_wire(&run.counts)?,
        n_records,
        archive: archive::reference_from_wire(&archive)?,
    })
}

fn counts_from_wire(counts: &[u32]) -> Result<Counts, ConvertError> {
    let expected = TaskState::ALL.len();
    let mut out = [0; TaskState::ALL.len()];
    let Some(known) = out.get_mut(..counts.len()) else {
        let (field, found) = ("archived_run.counts", counts.len());
        return Err(ConvertError::Length { field, found, expected });
    };
    known.copy_from_slice(counts);
    Ok(out)
}
