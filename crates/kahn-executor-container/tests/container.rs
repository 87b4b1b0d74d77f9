//! Tests of containers, with the engine whose socket `KAHN_TEST_ENGINE` names.
//!
//! Without one, each test prints `NOT RUN`. `cargo xtask test` starts one, or reports why it
//! cannot.

#[path = "container/attempts.rs"]
mod attempts;
#[path = "container/confinement.rs"]
mod confinement;
#[path = "container/images.rs"]
mod images;
#[path = "container/orphans.rs"]
mod orphans;
#[path = "container/support.rs"]
mod support;
