//! Tests of the HTTP executor, with a server on loopback.

#[path = "http/answers.rs"]
mod answers;
#[path = "http/polling.rs"]
mod polling;
#[path = "http/refusals.rs"]
mod refusals;
#[path = "http/support.rs"]
mod support;
#[path = "http/troubles.rs"]
mod troubles;
