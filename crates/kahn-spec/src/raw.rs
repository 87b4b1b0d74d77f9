//! The DAG file as it is written: every field that exists, with its description.
//!
//! The parser and the published schema are both made of these types, so that they cannot disagree.
//! What the values mean, and whether they go together, is looked at later.

mod entries;
mod policy;
mod record;
mod scalars;
mod task;

pub(crate) use entries::{Entries, OneOrMany};
pub(crate) use policy::{RawOnFailure, RawParam, RawParamSpec, RawParamType, RawPolicy};
pub(crate) use scalars::{RawLength, Toggle};
pub(crate) use task::{
    RawBackoff, RawBackoffKind, RawCauses, RawCircuit, RawConcurrency, RawContainer, RawDefaults,
    RawFunction, RawHttp, RawLabelOp, RawLabelRule, RawLabelSet, RawLabels, RawMatrix, RawMount,
    RawNeed, RawNeedKind, RawNeedSpec, RawOnDisconnect, RawPort, RawPull, RawPython, RawRetry,
    RawSecret, RawSecretForm, RawShell, RawTask, RawTimeouts, RawTrigger, RawValue, RawWhen, Short,
};

use crate::lenient::Scalar;
use crate::span::Spanned;
use record::record;

/// A text with its place.
pub(crate) type Word = Spanned<String>;
/// Environment variables in the order written.
pub(crate) type RawEnv = Entries<Spanned<RawValue>>;

record! {
    /// A DAG file for Kahn: tasks, what they need, and how they are to be run.
    RawFile {
        /// What the DAG is called; the name of the file when not given.
        name: Box<Word>,
        /// What the DAG is for, in words.
        description: Box<Scalar>,
        /// Values that are given when a run is submitted, by name.
        params: Box<Entries<RawParam>>,
        /// Environment variables of every task that starts a process.
        env: Box<RawEnv>,
        /// Rules for a whole run.
        policy: Box<RawPolicy>,
        /// What holds for every task that does not say otherwise.
        defaults: Box<RawDefaults>,
        /// The tasks, by name.
        tasks: Entries<RawTask>,
    }
}
