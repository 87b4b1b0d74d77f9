//! Renders values as text and as JSON. Performs no I/O: returns text or values.

pub(crate) mod diagnostics;
pub(crate) mod event;
pub(crate) mod json;
pub(crate) mod plain;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod progress;
pub(crate) mod run;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod throttle;
pub(crate) mod usage;
pub(crate) mod worker;
