//! Bytes for an expression.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kahn_spec::fuzz::expression(data);
});
