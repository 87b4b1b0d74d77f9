//! The DAG file: parsing, validation, expressions, matrices, schema and imports.
//!
//! [`compile`] turns a file into a self-contained [`kahn_model::Dag`], or reports everything that
//! is wrong with it. This crate does not read files, clocks or the environment.

mod diagnostic;
mod expr;

mod length;
mod lenient;
mod span;
mod suggest;

mod raw;

mod document;

mod compile;

pub mod graph;
pub mod import;
mod schema;

#[doc(hidden)]
pub mod fuzz;

#[cfg(feature = "testing")]
pub mod testing;

pub use compile::{Compiled, ParamValue, Shortage, compile, diagnose_shortages};
pub use diagnostic::{Code, DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Label, Severity};
pub use expr::{
    Evaluator, ExprError, References, RunView, Scope, TaskReference, TaskView, evaluate_condition,
    references, render, render_work, text_references, work_references,
};
pub use schema::schema;
pub use suggest::nearest;
