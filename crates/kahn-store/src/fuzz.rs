//! Entry points for fuzzers: arbitrary input must never cause a panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kahn_core::Submission;
use kahn_model::{Action, DagBuilder, Name, Namespace, NewTask, RunId, RunPolicy, Uuid, Work};

use crate::codec::{self, CodecError};
use crate::record::RecordDecoder;

/// Decodes `bytes` as every kind of document, and uses it as the content of every blob.
pub fn log_record(bytes: &[u8]) {
    let fetch = |_: &str| -> Result<Bytes, CodecError> { Ok(Bytes::copy_from_slice(bytes)) };
    if let Ok(changes) = codec::decode_batch(bytes, fetch) {
        // Decoded changes can be encoded and decoded again: unknown optional records are gone.
        let again = codec::encode_batch(&changes);
        let fetch = |name: &str| {
            let found = again.blobs.iter().find(|(known, _)| known == name);
            found.map(|(_, b)| b.clone()).ok_or_else(|| CodecError::MissingBlob(name.to_owned()))
        };
        assert_eq!(codec::decode_batch(&again.payload, fetch), Ok(changes));
    }
    drop(codec::blob_names(bytes));
    drop(codec::decode_submission(bytes));
    drop(codec::decode_snapshot(bytes, fetch));
    drop(codec::snapshot_blob_names(bytes));
    drop(codec::decode_archive(codec::archive_reference(bytes), bytes));
    drop(codec::decode_picture(bytes, of_three_tasks()));
    records(bytes);
}

/// Decodes `bytes` as the records of a partition.
fn records(bytes: &[u8]) {
    let mut decoder = RecordDecoder::new(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    for piece in bytes.chunks(7) {
        decoder.push(piece).expect("invariant: no more than agreed");
        while let Ok(Some(record)) = decoder.next_record() {
            let mut again = RecordDecoder::new(u64::MAX);
            again.push(&record.encode()).expect("invariant: no more than agreed");
            assert_eq!(again.next_record(), Ok(Some(record)));
        }
    }
}

fn of_three_tasks() -> Submission {
    let name = |text| Name::new(text).expect("invariant: a valid name");
    let mut dag = DagBuilder::new(name("d"), RunPolicy::default());
    for task in ["a", "b", "c"] {
        let task = NewTask::new(name(task), Work::new(Action::Noop));
        dag.task(task).expect("invariant: three are not too many");
    }
    Submission {
        run: RunId::new(Uuid::nil()),
        namespace: Namespace::default(),
        dag: Arc::new(dag.build().expect("invariant: no dependencies, no cycle")),
        params: BTreeMap::new(),
        digest: [0; 16],
        labels: BTreeMap::new(),
    }
}
