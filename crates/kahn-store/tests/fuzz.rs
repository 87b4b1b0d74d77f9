//! Mutated logs, checkpoints and blobs: each is decoded or refused, without a panic.

#[cfg(test)]
#[path = "../../kahn-spec/tests/fuzz/driver.rs"]
mod driver;

use kahn_core::Change;
use kahn_store::codec::{CodecError, decode_batch, encode_batch, encode_submission};

/// Files of released versions: a batch, and a checkpoint with its blob, each with a length prefix.
const BATCH: &[u8] = include_bytes!("golden/batch-v1.bin");
const CHECKPOINT: &[u8] = include_bytes!("golden/checkpoint-v1.bin");

#[cfg(test)]
fn records() -> Vec<Vec<u8>> {
    let mut records = vec![BATCH.to_vec()];
    let mut rest = CHECKPOINT;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap();
        records.push(behind[..length].to_vec());
        rest = &behind[length..];
    }
    // Each change by itself, so that mutations of one do not all lead to another.
    let no_blobs = |name: &str| Err(CodecError::MissingBlob(name.to_owned()));
    for change in decode_batch(BATCH, no_blobs).unwrap() {
        if let Change::RunSubmitted(submission) = &change.1 {
            records.push(encode_submission(submission).to_vec());
        }
        records.push(encode_batch(&[change]).payload.to_vec());
    }
    records
}

#[test]
fn no_bytes_break_the_log_record() {
    driver::drive("log record", &records(), kahn_store::fuzz::log_record);
}
