//! The raw DAG file: every field, with its description.
//!
//! The parser and the published schema are both generated from these types, so they cannot
//! disagree. The values are validated later.

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
    RawFunction, RawHttp, RawKubernetes, RawLabelOp, RawLabelRule, RawLabelSet, RawLabels,
    RawMatrix, RawMount, RawNeed, RawNeedKind, RawNeedSpec, RawOnDisconnect, RawPodVolume, RawPort,
    RawPull, RawPython, RawRetry, RawSecret, RawSecretForm, RawShell, RawTask, RawTimeouts,
    RawToleration, RawTrigger, RawValue, RawVia, RawWhen, Short,
};

use crate::lenient::Scalar;
use crate::span::Spanned;
use record::record;

/// A string with its span.
pub(crate) type Word = Spanned<String>;
/// Environment variables in source order.
pub(crate) type RawEnv = Entries<Spanned<RawValue>>;

record! {
    /// A DAG file for Kahn: tasks, their dependencies and how to run them.
    RawFile {
        /// The name of the DAG. Default: the name of the file.
        name: Box<Word>,
        /// A description of the DAG.
        description: Box<Scalar>,
        /// Parameters whose values are given when a run is submitted, by name.
        params: Box<Entries<RawParam>>,
        /// Environment variables of every task that starts a process.
        env: Box<RawEnv>,
        /// Settings for a whole run.
        policy: Box<RawPolicy>,
        /// Default settings for all tasks.
        defaults: Box<RawDefaults>,
        /// The tasks, by name.
        tasks: Entries<RawTask>,
    }
}
