//! Bytes for a record of the log, a checkpoint or a blob.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kahn_store::fuzz::log_record(data);
});
