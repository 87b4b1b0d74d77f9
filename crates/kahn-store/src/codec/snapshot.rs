//! Checkpoints: a small manifest, for each run a picture stored in blobs, and for all archived runs
//! together a list of summaries, which is stored in blobs, too.
//!
//! Blobs are content-addressed, so content that has not changed since the last checkpoint reuses
//! the same blob. A caller that keeps the [`RunEntry`] of an unchanged run need not encode it
//! again.

mod archived;
mod cells;
mod history;
mod picture;

use std::collections::BTreeSet;

use bytes::Bytes;
use kahn_core::{RunSnapshot, Snapshot, Submission};
use kahn_model::{Name, Namespace, RunId, Timestamp};
use kahn_proto::convert::{ConvertError, ids};
use kahn_proto::storage as wire;

use super::frame::{self, Document};
use super::{CodecError, Encoded, blob, submission};

/// The first format with archived runs.
const ARCHIVED_FORMAT: u8 = 2;

/// Locates one run in a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEntry {
    run: RunId,
    entry: wire::RunEntry,
}

impl RunEntry {
    /// The id of the run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Returns the names of the blobs of the run, without duplicates.
    #[must_use]
    pub fn blob_names(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        names.extend(self.entry.picture.iter().flat_map(blob::names));
        names.extend(self.entry.submission.iter().flat_map(submission::names));
        names.into_iter().collect()
    }

    /// Returns the stored form.
    pub(super) fn into_wire(self) -> wire::RunEntry {
        self.entry
    }

    pub(super) fn from_wire(entry: wire::RunEntry) -> Result<Self, CodecError> {
        Ok(Self { run: ids::run_from_wire("run_entry.run", &entry.run)?, entry })
    }
}

/// Encodes one run and returns its entry and its blobs.
///
/// If an earlier entry of the same run is given, its submission, which never changes, is reused and
/// neither encoded again nor returned among the blobs.
#[must_use]
pub fn encode_run(
    run: &RunSnapshot,
    earlier: Option<&RunEntry>,
) -> (RunEntry, Vec<(String, Bytes)>) {
    let id = run.submission.run;
    let mut blobs = Vec::new();
    let earlier = earlier.filter(|entry| entry.run == id);
    let submission = earlier
        .and_then(|entry| entry.entry.submission.clone())
        .unwrap_or_else(|| submission::put(&run.submission, &mut blobs));
    let picture = frame::seal(Document::Picture, &picture::to_wire(run));
    let entry = wire::RunEntry {
        run: ids::run_to_wire(id),
        picture: Some(blob::put(&picture, &mut blobs)),
        submission: Some(submission),
    };
    (RunEntry { run: id, entry }, blobs)
}

/// Encodes the manifest of a checkpoint of these runs. Everything else is that of a [`Snapshot`].
/// Returns the manifest with the blobs of the archived runs.
#[must_use]
pub fn encode_manifest(snapshot: &Snapshot, runs: &[RunEntry]) -> Encoded {
    let breaker = |(namespace, key, failures, open_until): &(Namespace, Name, _, _)| {
        let open_until: &Option<Timestamp> = open_until;
        wire::Breaker {
            namespace: namespace.as_str().to_owned(),
            key: key.as_str().to_owned(),
            failures: *failures,
            open_until: open_until.map(|until| until.0),
        }
    };
    let mut blobs = Vec::new();
    let message = wire::Manifest {
        at: snapshot.at.0,
        runs: runs.iter().map(|run| run.entry.clone()).collect(),
        breakers: snapshot.breakers.iter().map(breaker).collect(),
        cordoned: snapshot.cordoned.iter().map(|worker| worker.as_str().to_owned()).collect(),
        archived: archived::put(&snapshot.archived, &mut blobs),
    };
    // An earlier version would lose the archived runs.
    let payload = match message.archived {
        Some(_) => frame::seal_as(ARCHIVED_FORMAT, Document::Manifest, &message),
        None => frame::seal(Document::Manifest, &message),
    };
    Encoded { payload, blobs }
}

/// Encodes a checkpoint: its manifest and the blobs of all its runs.
#[must_use]
pub fn encode_snapshot(snapshot: &Snapshot) -> Encoded {
    let mut blobs = Vec::new();
    let mut entries = Vec::with_capacity(snapshot.runs.len());
    for run in &snapshot.runs {
        let (entry, of_run) = encode_run(run, None);
        entries.push(entry);
        blobs.extend(of_run);
    }
    let manifest = encode_manifest(snapshot, &entries);
    blobs.extend(manifest.blobs);
    Encoded { payload: manifest.payload, blobs }
}

/// Returns the entries of a manifest, to be kept for the next one.
///
/// # Errors
///
/// Returns an error if the bytes are not a manifest.
pub fn manifest_entries(manifest: &[u8]) -> Result<Vec<RunEntry>, CodecError> {
    let message: wire::Manifest = frame::open(Document::Manifest, manifest)?;
    message.runs.into_iter().map(RunEntry::from_wire).collect()
}

/// Returns the names of the blobs that [`decode_snapshot`] will fetch, without duplicates. It needs
/// no other blobs.
///
/// # Errors
///
/// Returns an error if the bytes are not a manifest.
pub fn snapshot_blob_names(manifest: &[u8]) -> Result<Vec<String>, CodecError> {
    let message: wire::Manifest = frame::open(Document::Manifest, manifest)?;
    let mut names: BTreeSet<String> = message.archived.iter().flat_map(blob::names).collect();
    for entry in message.runs {
        names.extend(RunEntry::from_wire(entry)?.blob_names());
    }
    Ok(names.into_iter().collect())
}

/// Decodes a checkpoint. `fetch` returns the content of a blob; see [`snapshot_blob_names`].
///
/// The result is consistent: every position refers to an existing task or worker, and exactly the
/// tasks that are held have a lease.
///
/// # Errors
///
/// Returns the errors of `fetch`, or a [`CodecError`] if the bytes are not a checkpoint.
pub fn decode_snapshot(
    manifest: &[u8],
    mut fetch: impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Snapshot, CodecError> {
    let message: wire::Manifest = frame::open(Document::Manifest, manifest)?;
    let mut seen = BTreeSet::new();
    let mut runs = Vec::with_capacity(message.runs.len());
    for entry in message.runs {
        let entry = RunEntry::from_wire(entry)?;
        if !seen.insert(entry.run) {
            let key = entry.run.to_string();
            return Err(ConvertError::Repeated { field: "manifest.runs", key }.into());
        }
        runs.push(decode_run(&entry, &mut fetch)?);
    }
    let archived = message.archived.as_ref().map(|list| archived::get(list, &mut fetch));
    let archived = archived.transpose()?.unwrap_or_default();
    if let Some(repeated) = archived.iter().find(|archived| !seen.insert(archived.run)) {
        let key = repeated.run.to_string();
        return Err(ConvertError::Repeated { field: "manifest.archived", key }.into());
    }
    let breakers = message.breakers.iter().map(breaker_from_wire).collect::<Result<_, _>>()?;
    let cordoned = message.cordoned.iter().map(|id| ids::worker("manifest.cordoned", id));
    let cordoned = cordoned.collect::<Result<_, _>>()?;
    Ok(Snapshot { at: Timestamp(message.at), runs, archived, breakers, cordoned })
}

/// Decodes a run of a checkpoint or of the log.
pub(super) fn decode_run(
    RunEntry { run, entry }: &RunEntry,
    fetch: &mut impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<RunSnapshot, CodecError> {
    let missing = |field| ConvertError::Missing { field };
    let picture = entry.picture.as_ref().ok_or_else(|| missing("run_entry.picture"))?;
    let reference = entry.submission.as_ref().ok_or_else(|| missing("run_entry.submission"))?;
    let submission = submission::get(reference, fetch)?;
    if submission.run != *run {
        return Err(CodecError::Inconsistent("a submission is of another run"));
    }
    decode_picture(&blob::get(picture, fetch)?, submission)
}

/// Decodes the picture of a run of this submission.
pub(crate) fn decode_picture(
    bytes: &[u8],
    submission: Submission,
) -> Result<RunSnapshot, CodecError> {
    picture::from_wire(frame::open(Document::Picture, bytes)?, submission)
}

fn breaker_from_wire(
    breaker: &wire::Breaker,
) -> Result<(Namespace, Name, u32, Option<Timestamp>), CodecError> {
    let namespace = ids::namespace("breaker.namespace", &breaker.namespace)?;
    let key = ids::name("breaker.key", &breaker.key)?;
    Ok((namespace, key, breaker.failures, breaker.open_until.map(Timestamp)))
}
