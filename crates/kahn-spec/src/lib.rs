//! The DAG file: parse, validate, expressions, matrix, schema and imports.
//!
//! [`compile`] takes a file to a [`kahn_model::Dag`] that needs nothing beside it to be run, or
//! says all that is wrong with it. Nothing here reads files, clocks or the environment.

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
