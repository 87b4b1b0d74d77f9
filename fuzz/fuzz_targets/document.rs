//! Bytes for a DAG file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kahn_spec::fuzz::document(data);
});
