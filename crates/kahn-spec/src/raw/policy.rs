//! Raw parameters and settings for a whole run.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::RawLength;
use super::record::record;
use crate::lenient::Scalar;
use crate::span::Spanned;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawParamType {
    /// A string.
    String,
    /// An integer.
    Int,
    /// Any number.
    Number,
    /// `true` or `false`.
    Bool,
    /// Any JSON value.
    Json,
}

record! {
    /// A parameter.
    RawParamSpec {
        /// The type. Default: the type of `default`, or else `string`.
        type_ ("type"): RawParamType,
        /// The value if none is given.
        default: Spanned<serde_json::Value>,
        /// Whether a value must be given. Default: true if there is no `default`.
        required: bool,
        /// The allowed values.
        enum_ ("enum"): Vec<serde_json::Value>,
        /// A description of the parameter.
        description: Scalar,
    }
}

/// A full parameter, or only its default value.
#[derive(Debug)]
pub(crate) enum RawParam {
    Spec(Box<RawParamSpec>),
    Default(serde_json::Value),
}

struct ParamVisitor;

impl<'de> Visitor<'de> for ParamVisitor {
    type Value = RawParam;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of fields or a default")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawParam, A::Error> {
        RawParamSpec::deserialize(MapAccessDeserializer::new(map))
            .map(|spec| RawParam::Spec(Box::new(spec)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawParam, A::Error> {
        serde_json::Value::deserialize(SeqAccessDeserializer::new(seq)).map(RawParam::Default)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<RawParam, E> {
        Ok(RawParam::Default(value.into()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<RawParam, E> {
        Ok(RawParam::Default(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<RawParam, E> {
        Ok(RawParam::Default(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<RawParam, E> {
        Ok(RawParam::Default(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<RawParam, E> {
        Ok(RawParam::Default(value.into()))
    }
}

impl<'de> Deserialize<'de> for RawParam {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ParamVisitor)
    }
}

impl JsonSchema for RawParam {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Param".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let spec = generator.subschema_for::<RawParamSpec>();
        json_schema!({
            "anyOf": [spec, { "type": ["string", "number", "boolean", "array"] }]
        })
    }
}

record! {
    /// Settings for a whole run.
    RawPolicy {
        /// What to do when a task has failed permanently: `continue` (default), `fail_fast` or
        /// `{max_failures: n}`.
        on_failure: Spanned<RawOnFailure>,
        /// Maximum number of tasks that run at the same time.
        max_parallel: Spanned<u32>,
        /// The run is cancelled if it has not ended after this time.
        timeout: RawLength,
        /// Runs with a higher priority are scheduled first.
        priority: i32,
    }
}

/// The reaction to a permanently failed task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawOnFailure {
    Continue,
    FailFast,
    MaxFailures(u32),
}

record! {
    /// Continues until this many tasks have failed.
    RawMaxFailures {
        /// The number of failed tasks.
        max_failures: u32,
    }
}

struct OnFailureVisitor;

impl<'de> Visitor<'de> for OnFailureVisitor {
    type Value = RawOnFailure;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`continue`, `fail_fast` or `{max_failures: n}`")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<RawOnFailure, E> {
        match word {
            "continue" => Ok(RawOnFailure::Continue),
            "fail_fast" => Ok(RawOnFailure::FailFast),
            _ => Err(E::unknown_variant(word, &["continue", "fail_fast"])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawOnFailure, A::Error> {
        let raw = RawMaxFailures::deserialize(MapAccessDeserializer::new(map))?;
        raw.max_failures
            .map(RawOnFailure::MaxFailures)
            .ok_or_else(|| A::Error::missing_field("max_failures"))
    }
}

impl<'de> Deserialize<'de> for RawOnFailure {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(OnFailureVisitor)
    }
}

impl JsonSchema for RawOnFailure {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OnFailure".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let limited = generator.subschema_for::<RawMaxFailures>();
        json_schema!({ "anyOf": [{ "enum": ["continue", "fail_fast"] }, limited] })
    }
}
