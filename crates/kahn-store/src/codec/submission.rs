//! Submissions: documents of their own, embedded in another document if small and in blobs if
//! large.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kahn_core::Submission;
use kahn_proto::convert::{ConvertError, dag, ids, report};
use kahn_proto::storage as wire;
use wire::submission_ref::Place;

use super::frame::{self, Document};
use super::{CodecError, blob};

/// The largest submission that is embedded in its record, in bytes.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// Encodes a submission.
#[must_use]
pub fn encode_submission(submission: &Submission) -> Bytes {
    let message = wire::Submission {
        run: ids::run_to_wire(submission.run),
        namespace: submission.namespace.as_str().to_owned(),
        dag: Some(dag::to_wire(&submission.dag)),
        params: Some(report::values_to_wire(&submission.params)),
        digest: Bytes::copy_from_slice(&submission.digest),
        labels: labels_to_wire(&submission.labels),
    };
    frame::seal(Document::Submission, &message)
}

/// Decodes a submission.
///
/// # Errors
///
/// Returns a [`CodecError`] if the bytes are not such a document.
pub fn decode_submission(bytes: &[u8]) -> Result<Submission, CodecError> {
    let message: wire::Submission = frame::open(Document::Submission, bytes)?;
    let digest = message.digest.as_ref();
    let wrong_length =
        |_| ConvertError::Length { field: "submission.digest", found: digest.len(), expected: 16 };
    let dag = message.dag.ok_or(ConvertError::Missing { field: "submission.dag" })?;
    let params = message.params.unwrap_or_default();
    Ok(Submission {
        run: ids::run_from_wire("submission.run", &message.run)?,
        namespace: ids::namespace("submission.namespace", &message.namespace)?,
        digest: digest.try_into().map_err(wrong_length)?,
        dag: Arc::new(dag::from_wire(dag)?),
        params: report::values_from_wire("submission.params", params)?,
        labels: labels_from_wire("submission.labels", message.labels)?,
    })
}

pub(super) fn labels_to_wire(labels: &BTreeMap<Box<str>, Box<str>>) -> Vec<wire::Label> {
    let labels = labels.iter();
    labels
        .map(|(key, value)| wire::Label { key: key.to_string(), value: value.to_string() })
        .collect()
}

pub(super) fn labels_from_wire(
    field: &'static str,
    labels: Vec<wire::Label>,
) -> Result<BTreeMap<Box<str>, Box<str>>, CodecError> {
    let mut out = BTreeMap::new();
    for wire::Label { key, value } in labels {
        if out.contains_key(key.as_str()) {
            return Err(ConvertError::Repeated { field, key }.into());
        }
        out.insert(key.into_boxed_str(), value.into_boxed_str());
    }
    Ok(out)
}

/// Returns a reference to the submission. The pieces of a large submission are added to `blobs`.
pub(super) fn put(
    submission: &Submission,
    blobs: &mut Vec<(String, Bytes)>,
) -> wire::SubmissionRef {
    let document = encode_submission(submission);
    let place = if document.len() <= INLINE_BYTES_MAX {
        Place::Inline(document)
    } else {
        Place::Blob(blob::put(&document, blobs))
    };
    wire::SubmissionRef { place: Some(place) }
}

/// Decodes the submission that a reference points to.
pub(super) fn get(
    reference: &wire::SubmissionRef,
    fetch: &mut impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Submission, CodecError> {
    match &reference.place {
        Some(Place::Inline(document)) => decode_submission(document),
        Some(Place::Blob(blob)) => decode_submission(&blob::get(blob, fetch)?),
        None => Err(ConvertError::Missing { field: "submission_ref.place" }.into()),
    }
}

/// Returns the names of the blobs of the submission.
pub(super) fn names(reference: &wire::SubmissionRef) -> Vec<String> {
    match &reference.place {
        Some(Place::Blob(blob)) => blob::names(blob).collect(),
        Some(Place::Inline(_)) | None => Vec::new(),
    }
}
