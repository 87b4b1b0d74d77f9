//! Submits a DAG file in pieces, so that its run starts exactly once even if the connection breaks.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::{Labels, RunId};
use kahn_proto::api;
use kahn_proto::api::submit_request::Part;

use crate::client::{Client, within};
use crate::convert;
use crate::error::Error;
use crate::random;
use crate::retry::OutageRetry;

/// The size of the pieces of the file, in bytes.
pub const DOCUMENT_PIECE_BYTES: usize = 1 << 20;

/// A DAG file to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The file, YAML or JSON.
    pub document: Arc<[u8]>,
    /// The file name used in messages.
    pub file_name: String,
    /// The namespace of the run; the coordinator's default when empty.
    pub namespace: String,
    /// A repeated submit with the same key returns the run of the first one. `None` generates a
    /// unique key.
    pub idempotency_key: Option<String>,
    /// Values of the file's parameters, in text form.
    pub params: BTreeMap<String, String>,
    /// Labels of the run, for filtering.
    pub labels: Labels,
}

impl Submission {
    /// Creates a submission of this file without parameters, in the default namespace.
    #[must_use]
    pub fn new(document: impl AsRef<[u8]>) -> Self {
        Self {
            document: document.as_ref().into(),
            file_name: String::new(),
            namespace: String::new(),
            idempotency_key: None,
            params: BTreeMap::new(),
            labels: Labels::new(),
        }
    }
}

/// The result of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The run.
    pub run: RunId,
    /// Whether the run already existed, with the same idempotency key.
    pub is_repeated: bool,
    /// Warnings about things that are allowed but probably unintended.
    pub warnings: Vec<String>,
}

impl Client {
    /// Starts a run of a DAG file. The run is durable when this returns.
    ///
    /// The idempotency key is chosen before anything is sent, so that a retry after a lost
    /// connection cannot start a second run.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Refused`] if the file or the parameters are not valid; for other errors see
    /// [`Error`].
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, Error> {
        let idempotency_key = match &submission.idempotency_key {
            Some(key) => key.clone(),
            None => random::key(),
        };
        let header = api::SubmitHeader {
            namespace: submission.namespace.clone(),
            idempotency_key,
            params: submission.params.clone().into_iter().collect(),
            labels: submission.labels.clone().into_iter().collect(),
            file_name: submission.file_name.clone(),
        };
        let mut retry = OutageRetry::new(self.options().outage_timeout);
        let mut n_tries = 0_u32;
        loop {
            let messages = messages(header.clone(), Arc::clone(&submission.document));
            let mut runs = self.runs();
            let asked = runs.submit(tokio_stream::iter(messages));
            n_tries += 1;
            match within("submit", self.options().submit_timeout, asked).await {
                Ok(answer) => return submitted(answer.into_inner(), submission, n_tries),
                Err(error) => self.retry_elsewhere(&mut retry, error).await?,
            }
        }
    }
}

fn submitted(
    answer: api::SubmitResponse,
    submission: &Submission,
    n_tries: u32,
) -> Result<Submitted, Error> {
    // With a generated key, a repeated run can only come from an earlier try of this call.
    let is_echo = submission.idempotency_key.is_none() && n_tries > 1;
    Ok(Submitted {
        run: convert::run_id(&answer.run)?,
        is_repeated: answer.is_repeated && !is_echo,
        warnings: answer.warnings,
    })
}

/// Yields the header, then the file in pieces. Each message is created when it is sent.
fn messages(
    header: api::SubmitHeader,
    document: Arc<[u8]>,
) -> impl Iterator<Item = api::SubmitRequest> + Send + 'static {
    let first = api::SubmitRequest { part: Some(Part::Header(header)) };
    let starts = (0..document.len()).step_by(DOCUMENT_PIECE_BYTES);
    let pieces = starts.map(move |start| {
        let end = (start + DOCUMENT_PIECE_BYTES).min(document.len());
        let piece = document[start..end].to_vec();
        api::SubmitRequest { part: Some(Part::Document(piece.into())) }
    });
    std::iter::once(first).chain(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_travels_in_pieces_that_add_up_to_it() {
        for size in [0, 1, DOCUMENT_PIECE_BYTES, DOCUMENT_PIECE_BYTES + 1, 3 << 20] {
            let document: Vec<u8> = (0_u8..=250).cycle().take(size).collect();
            let mut sent = messages(api::SubmitHeader::default(), document.clone().into());
            assert!(matches!(sent.next().unwrap().part, Some(Part::Header(_))));
            let mut joined = Vec::new();
            for message in sent {
                let Some(Part::Document(piece)) = message.part else { panic!("a second header") };
                assert!(piece.len() <= DOCUMENT_PIECE_BYTES);
                joined.extend_from_slice(&piece);
            }
            assert_eq!(joined, document);
        }
    }
}
