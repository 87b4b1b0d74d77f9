//! Tasks as written.

mod actions;
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
pub(crate) use labels::{RawLabelOp, RawLabelRule, RawLabelSet, RawLabels};
pub(crate) use limits::{
    RawBackoff, RawBackoffKind, RawCauses, RawCircuit, RawConcurrency, RawRetry, RawTimeouts,
};
pub(crate) use needs::{RawNeed, RawNeedKind, RawNeedSpec, RawTrigger, RawWhen};
pub(crate) use secret::{RawSecret, RawSecretForm, RawValue};

/// An action that this version knows of and does not do yet.
#[derive(Debug, Default)]
pub(crate) struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(d).map(|_| Self)
    }
}

/// The shell that reads a script.
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
    /// Goes on.
    Keep,
    /// Is stopped by its worker before another may be granted.
    Stop,
}

record! {
    /// A task: exactly one action (`run`, `exec`, `function`, `python`, `container`, `http`,
    /// `sleep` or `noop`), what it needs, and how it is to be run.
    RawTask {
        /// What the task is for, in words.
        description: Box<Scalar>,
        /// A shell script. Expressions are not allowed in it; use `env`.
        run: Box<Spanned<Scalar>>,
        /// A program and its arguments; expressions are allowed.
        exec: Box<Spanned<Vec<Spanned<Scalar>>>>,
        /// A function that a worker has registered: its name, or more detail.
        function: Box<Spanned<Short<RawFunction>>>,
        /// A function of Python: `module:name`, or more detail.
        python: Box<Spanned<Short<RawPython>>>,
        /// A container that runs to its end.
        container: Box<Spanned<RawContainer>>,
        /// A request over HTTP.
        http: Box<Spanned<RawHttp>>,
        /// Waits for this long.
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
        /// What must happen before: names of tasks, or maps with more detail.
        needs: OneOrMany<Spanned<RawNeed>>,
        /// How the set of dependencies decides; `all_succeeded` when not given.
        trigger: RawTrigger,
        /// A CEL condition; the task is skipped when it is false.
        condition ("if"): Box<Spanned<Scalar>>,
        /// One instance of the task for each combination of these values.
        matrix: Box<Spanned<RawMatrix>>,
        /// The names of the outputs that the task gives.
        outputs: Box<Vec<Word>>,
        /// Environment variables: texts, in which expressions are allowed, or `{ secret: name }`.
        env: Box<RawEnv>,
        /// When to try again.
        retry: Box<RawRetry>,
        /// The longest time an attempt may run: short for `timeouts: {run: …}`.
        timeout: Spanned<RawLength>,
        /// How long things may take.
        timeouts: Box<RawTimeouts>,
        /// A breaker shared by the tasks that use the same target.
        circuit: Box<Spanned<RawCircuit>>,
        /// Named limits shared by tasks.
        concurrency: Box<RawConcurrency>,
        /// Tasks with a higher priority go first within the run.
        priority: i32,
        /// What an attempt holds while it runs: `cpu`, `memory`, `gpu`, `disk`, `network`, or
        /// any resource that the operator named.
        resources: Box<Entries<Spanned<Scalar>>>,
        /// Which workers may and should run it.
        labels: Box<RawLabels>,
        /// What to do when the worker is cut off from the coordinator.
        on_disconnect: RawOnDisconnect,
        /// The shell that reads `run`.
        shell: RawShell,
        /// Where to run; a scratch directory when not given. Expressions are allowed.
        working_dir: Box<Spanned<Scalar>>,
        /// How long it is expected to take.
        estimate: RawLength,
    }
}

record! {
    /// What holds for every task that does not say otherwise. Maps such as `env`, `resources`,
    /// `retry` and `timeouts` are merged field by field.
    RawDefaults {
        /// Environment variables.
        env: Box<RawEnv>,
        /// When to try again.
        retry: Box<RawRetry>,
        /// The longest time an attempt may run.
        timeout: Spanned<RawLength>,
        /// How long things may take.
        timeouts: Box<RawTimeouts>,
        /// A breaker.
        circuit: Box<Spanned<RawCircuit>>,
        /// Named limits.
        concurrency: Box<RawConcurrency>,
        /// Tasks with a higher priority go first within the run.
        priority: i32,
        /// What an attempt holds while it runs.
        resources: Box<Entries<Spanned<Scalar>>>,
        /// Which workers may and should run it.
        labels: Box<RawLabels>,
        /// What to do when the worker is cut off.
        on_disconnect: RawOnDisconnect,
        /// The shell that reads `run`.
        shell: RawShell,
        /// Where to run.
        working_dir: Box<Spanned<Scalar>>,
        /// How long a task is expected to take.
        estimate: RawLength,
    }
}

/// The axes of a matrix, and what is added to and taken from their product.
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
