//! Raw tasks.

mod actions;
mod kubernetes;
mod labels;
mod limits;
mod needs;
mod secret;

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::record::record;
use super::{Entries, OneOrMany, RawEnv, RawLength, Toggle, Word};
use crate::lenient::Scalar;
use crate::span::Spanned;

pub(crate) use actions::{
    RawContainer, RawFunction, RawHttp, RawMount, RawPort, RawPull, RawPython, Short,
};
pub(crate) use kubernetes::{RawKubernetes, RawPodVolume, RawToleration, RawVia};
pub(crate) use labels::{RawLabelOp, RawLabelRule, RawLabelSet, RawLabels};
pub(crate) use limits::{
    RawBackoff, RawBackoffKind, RawCauses, RawCircuit, RawConcurrency, RawRetry, RawTimeouts,
};
pub(crate) use needs::{RawNeed, RawNeedKind, RawNeedSpec, RawTrigger, RawWhen};
pub(crate) use secret::{RawSecret, RawSecretForm, RawValue};

/// An action that is reserved but not supported by this version.
#[derive(Debug, Default)]
pub(crate) struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(d).map(|_| Self)
    }
}

/// The shell that runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawShell {
    /// `/bin/sh -e -c`.
    Sh,
    /// `bash -e -o pipefail -c`.
    Bash,
}

/// What an attempt does while its worker cannot reach the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawOnDisconnect {
    /// Continues.
    Keep,
    /// Is stopped by its worker before another attempt may be leased.
    Stop,
}

record! {
    /// A task: exactly one action (`run`, `exec`, `function`, `python`, `container`, `http`,
    /// `sleep` or `noop`), its dependencies and how to run it.
    RawTask {
        /// A description of the task.
        description: Box<Scalar>,
        /// A shell script. Expressions are not allowed in it; pass values with `env`.
        run: Box<Spanned<Scalar>>,
        /// A program and its arguments. Expressions are allowed.
        exec: Box<Spanned<Vec<Spanned<Scalar>>>>,
        /// A function registered by a worker: its name, or a map.
        function: Box<Spanned<Short<RawFunction>>>,
        /// A Python function: `module:name`, or a map.
        python: Box<Spanned<Short<RawPython>>>,
        /// A container that runs to completion.
        container: Box<Spanned<RawContainer>>,
        /// An HTTP request.
        http: Box<Spanned<RawHttp>>,
        /// Waits for this duration.
        sleep: Spanned<RawLength>,
        /// Does nothing.
        noop: Spanned<Toggle>,
        #[schemars(skip)]
        service: Spanned<Unsupported>,
        #[schemars(skip)]
        dag: Spanned<Unsupported>,
        #[schemars(skip)]
        approve: Spanned<Unsupported>,
        #[schemars(skip)]
        foreach: Spanned<Unsupported>,
        /// The dependencies: names of tasks, or maps.
        needs: OneOrMany<Spanned<RawNeed>>,
        /// When the task runs, depending on the state of its dependencies. Default:
        /// `all_succeeded`.
        trigger: RawTrigger,
        /// A CEL condition. The task is skipped if it is false.
        condition ("if"): Box<Spanned<Scalar>>,
        /// Creates one instance of the task for each combination of these values.
        matrix: Box<Spanned<RawMatrix>>,
        /// The names of the outputs of the task.
        outputs: Box<Vec<Word>>,
        /// Environment variables: strings, in which expressions are allowed, or `{ secret: name }`.
        env: Box<RawEnv>,
        /// The retry policy.
        retry: Box<RawRetry>,
        /// Maximum run time of an attempt. Short for `timeouts: {run: …}`.
        timeout: Spanned<RawLength>,
        /// Timeouts.
        timeouts: Box<RawTimeouts>,
        /// A circuit breaker shared by all tasks that use the same target.
        circuit: Box<Spanned<RawCircuit>>,
        /// Named concurrency limits shared by tasks.
        concurrency: Box<RawConcurrency>,
        /// Tasks with a higher priority are scheduled first within the run.
        priority: i32,
        /// Resources reserved for an attempt while it runs: `cpu`, `memory`, `gpu`, `disk`,
        /// `network`, or a resource defined by the operator.
        resources: Box<Entries<Spanned<Scalar>>>,
        /// Which workers may run the task, and which are preferred.
        labels: Box<RawLabels>,
        /// What to do if the worker loses its connection to the coordinator.
        on_disconnect: RawOnDisconnect,
        /// The shell for `run`.
        shell: RawShell,
        /// The working directory. Default: a scratch directory. Expressions are allowed.
        working_dir: Box<Spanned<Scalar>>,
        /// The expected run time.
        estimate: RawLength,
    }
}

record! {
    /// Default settings for all tasks. Maps such as `env`, `resources`, `retry` and `timeouts` are
    /// merged field by field.
    RawDefaults {
        /// Environment variables.
        env: Box<RawEnv>,
        /// The retry policy.
        retry: Box<RawRetry>,
        /// Maximum run time of an attempt.
        timeout: Spanned<RawLength>,
        /// Timeouts.
        timeouts: Box<RawTimeouts>,
        /// A circuit breaker.
        circuit: Box<Spanned<RawCircuit>>,
        /// Named concurrency limits.
        concurrency: Box<RawConcurrency>,
        /// Tasks with a higher priority are scheduled first within the run.
        priority: i32,
        /// Resources reserved for an attempt while it runs.
        resources: Box<Entries<Spanned<Scalar>>>,
        /// Which workers may run a task, and which are preferred.
        labels: Box<RawLabels>,
        /// What to do if the worker loses its connection to the coordinator.
        on_disconnect: RawOnDisconnect,
        /// The shell for `run`.
        shell: RawShell,
        /// The working directory.
        working_dir: Box<Spanned<Scalar>>,
        /// The expected run time of a task.
        estimate: RawLength,
    }
}

/// The axes of a matrix, and the combinations to include and exclude.
#[derive(Debug, Default)]
pub(crate) struct RawMatrix {
    pub(crate) axes: Vec<(Spanned<Box<str>>, Vec<serde_json::Value>)>,
    pub(crate) include: Vec<Spanned<serde_json::Map<String, serde_json::Value>>>,
    pub(crate) exclude: Vec<Spanned<serde_json::Map<String, serde_json::Value>>>,
}

struct MatrixVisitor;

impl<'de> Visitor<'de> for MatrixVisitor {
    type Value = RawMatrix;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to lists of values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMatrix, A::Error> {
        let mut out = RawMatrix::default();
        while let Some(key) = map.next_key::<Spanned<Box<str>>>()? {
            match &*key.value {
                "include" => out.include = map.next_value()?,
                "exclude" => out.exclude = map.next_value()?,
                _ => out.axes.push((key, map.next_value()?)),
            }
        }
        Ok(out)
    }
}

impl<'de> Deserialize<'de> for RawMatrix {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(MatrixVisitor)
    }
}

impl JsonSchema for RawMatrix {
    fn schema_name() -> Cow<'static, str> {
        "Matrix".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let objects = generator.subschema_for::<Vec<serde_json::Map<String, serde_json::Value>>>();
        schemars::json_schema!({
            "type": "object",
            "description": "One instance of the task for each combination of these values.",
            "properties": {
                "include": {
                    "description": "Combinations to add, or values to add to combinations.",
                    "anyOf": [objects]
                },
                "exclude": { "description": "Combinations to leave out.", "anyOf": [objects] },
            },
            "additionalProperties": { "type": "array" },
        })
    }
}
