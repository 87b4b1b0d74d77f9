//! Retries, timeouts, breakers and named limits as written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::lenient::Scalar;
use crate::raw::record::record;
use crate::raw::{OneOrMany, RawLength, Word};
use crate::span::Spanned;

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawBackoffKind {
    /// Always the initial wait.
    Fixed,
    /// The initial wait times the number of the attempt.
    Linear,
    /// Doubled after each attempt.
    Exponential,
}

record! {
    /// How long to wait before the next attempt.
    RawBackoff {
        /// How the wait grows; `exponential` when not given.
        kind: RawBackoffKind,
        /// The wait after the first attempt; 1 s when not given.
        initial: RawLength,
        /// The longest wait; 5 min when not given.
        max: RawLength,
        /// Whether to vary the waits, so that tasks do not come back together.
        jitter: bool,
    }
}

/// The names of causes after which an attempt is followed by another.
#[derive(Debug, Default)]
pub(crate) struct RawCauses(pub(crate) Vec<Word>);

impl<'de> Deserialize<'de> for RawCauses {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        OneOrMany::deserialize(d).map(|causes| Self(causes.0))
    }
}

impl JsonSchema for RawCauses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Causes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> =
            kahn_model::CauseKind::ALL.iter().map(|cause| cause.as_str()).collect();
        let one = json_schema!({ "anyOf": [
            { "enum": names },
            { "type": "string", "pattern": "^exception:", "description": "one type of exception" },
        ] });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

record! {
    /// When to try again.
    RawRetry {
        /// Attempts in all, the first included.
        max_attempts: Spanned<u32>,
        /// The wait between attempts.
        backoff: RawBackoff,
        /// Only after these causes, such as `exit_code` or `exception:TimeoutError`; after
        /// everything that another try may mend when not given.
        on: RawCauses,
        /// Memory grows by this factor after each attempt that ran out of it.
        memory_multiplier: Spanned<f64>,
        /// The run timeout grows by this factor after each attempt that ran into it.
        timeout_multiplier: Spanned<f64>,
        /// How many attempts may be lost with their workers before the task is given up.
        crash_limit: u32,
        /// Memory does not grow beyond this.
        memory_max: Spanned<Scalar>,
    }
}

record! {
    /// How long things may take.
    RawTimeouts {
        /// From ready to leased.
        queue: RawLength,
        /// From leased to started.
        start: RawLength,
        /// From started to finished.
        run: Spanned<RawLength>,
        /// Between SIGTERM and SIGKILL when an attempt is stopped.
        grace: RawLength,
    }
}

record! {
    /// A breaker shared by the tasks of a namespace that use the same target.
    RawCircuit {
        /// The name of the target.
        key: Word,
        /// Failures in a row that open it; 5 when not given.
        failures: Spanned<u32>,
        /// How long it stays open; 1 min when not given.
        cool_down: RawLength,
    }
}

record! {
    /// A named limit.
    RawConcurrencyKey {
        /// The name.
        key: Word,
        /// Most attempts under it at one time; 1 when not given.
        limit: Spanned<u32>,
    }
}

/// Named limits: a name (with a limit of 1), `{key, limit}`, or a list of these.
#[derive(Debug, Default)]
pub(crate) struct RawConcurrency(pub(crate) Vec<Spanned<RawConcurrencyKey>>);

impl<'de> Deserialize<'de> for RawConcurrency {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let items = OneOrMany::<Spanned<NameOrKey>>::deserialize(d)?.0;
        let full = items.into_iter().map(|item| Spanned::new(item.value.0, item.span));
        Ok(Self(full.collect()))
    }
}

struct NameOrKey(RawConcurrencyKey);

struct NameOrKeyVisitor;

impl<'de> Visitor<'de> for NameOrKeyVisitor {
    type Value = NameOrKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or `{key, limit}`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<NameOrKey, E> {
        let key = Some(Spanned::new(name.to_owned(), crate::span::Span::NONE));
        Ok(NameOrKey(RawConcurrencyKey { key, limit: None }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NameOrKey, A::Error> {
        RawConcurrencyKey::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            .map(NameOrKey)
    }
}

impl<'de> Deserialize<'de> for NameOrKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NameOrKeyVisitor)
    }
}

impl JsonSchema for RawConcurrency {
    fn schema_name() -> Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let key = generator.subschema_for::<RawConcurrencyKey>();
        let one = json_schema!({ "anyOf": [{ "type": "string" }, key] });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}
