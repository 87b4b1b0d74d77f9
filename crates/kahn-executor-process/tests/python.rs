//! Tests of the Python executor with a real interpreter.

#[path = "python/calls.rs"]
mod calls;
#[path = "python/ends.rs"]
mod ends;
#[path = "python/reuse.rs"]
mod reuse;
#[path = "python/support.rs"]
mod support;
