//! Bytes for what a worker says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kahn_coordinator::fuzz::worker_stream(data);
});
