//! Raw retries, timeouts, circuit breakers and named concurrency limits.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::lenient::Scalar;
use crate::raw::record::record;
use crate::raw::{OneOrMany, RawLength, Word};
use crate::span::Spanned;

/// How the delay between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawBackoffKind {
    /// Always the initial delay.
    Fixed,
    /// The initial delay times the number of the attempt.
    Linear,
    /// Doubled after each attempt.
    Exponential,
}

record! {
    /// The delay before the next attempt.
    RawBackoff {
        /// How the delay grows. Default: `exponential`.
        kind: RawBackoffKind,
        /// The delay after the first attempt. Default: 1 s.
        initial: RawLength,
        /// The maximum delay. Default: 5 min.
        max: RawLength,
        /// Whether to randomize the delays, so that tasks do not retry at the same time.
        jitter: bool,
    }
}

/// The causes of failure after which an attempt is retried.
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
    /// The retry policy.
    RawRetry {
        /// Maximum number of attempts, including the first.
        max_attempts: Spanned<u32>,
        /// The delay between attempts.
        backoff: RawBackoff,
        /// Retries only after these causes, such as `exit_code` or `exception:TimeoutError`.
        /// Default: all causes that a retry may fix.
        on: RawCauses,
        /// Multiplies the memory by this factor after each attempt that ran out of memory.
        memory_multiplier: Spanned<f64>,
        /// Multiplies the run timeout by this factor after each attempt that exceeded it.
        timeout_multiplier: Spanned<f64>,
        /// How many attempts may be lost with their workers before the task fails permanently.
        crash_limit: u32,
        /// The memory is never increased beyond this.
        memory_max: Spanned<Scalar>,
    }
}

record! {
    /// Timeouts.
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
    /// A circuit breaker shared by all tasks of a namespace that use the same target.
    RawCircuit {
        /// The name of the target.
        key: Word,
        /// The number of consecutive failures that open it. Default: 5.
        failures: Spanned<u32>,
        /// How long it stays open. Default: 1 min.
        cool_down: RawLength,
    }
}

record! {
    /// A named concurrency limit.
    RawConcurrencyKey {
        /// The name.
        key: Word,
        /// Maximum number of concurrent attempts. Default: 1.
        limit: Spanned<u32>,
    }
}

/// Named concurrency limits: a name (with limit 1), `{key, limit}`, or a list of these.
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
