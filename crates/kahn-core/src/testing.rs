//! Test support: a DAG builder, and a core with fake workers.
//!
//! ```
//! use kahn_core::testing::{World, dag};
//!
//! let mut world = World::new();
//! world.attach("w1", "cpu=2");
//! let run = world.submit(&dag().task("a").task("b").after("a").build());
//! world.finish_all();
//! assert_eq!(world.run(run).state.as_str(), "succeeded");
//! ```

mod dag;
mod render;
mod world;

pub use dag::{DagScript, dag};
pub use world::{FakeWorker, Holding, World, exit_code, submission, worker_id};
