//! Scalars with a custom notation.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use kahn_model::limits;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::length;
use crate::lenient::Scalar;

/// A duration: `1h30m`, `500ms`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawLength(pub(crate) Duration);

impl<'de> Deserialize<'de> for RawLength {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(d)?;
        length::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for RawLength {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Length".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "minimum": 0,
            "maximum": limits::SPAN_MAX.as_secs(),
            "pattern": "^([0-9]+(\\.[0-9]+)?(ms|us|s|m|h|d)?)+$",
            "description": "`1h30m`, `500ms`, or a number of seconds",
        })
    }
}

/// A flag: `true`, `{}` and an empty value mean true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Toggle(pub(crate) bool);

struct ToggleVisitor;

impl<'de> Visitor<'de> for ToggleVisitor {
    type Value = Toggle;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true` or `{}`")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Toggle, E> {
        Ok(Toggle(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Toggle, E> {
        Ok(Toggle(true))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Toggle, A::Error> {
        match map.next_key::<String>()? {
            Some(key) => Err(A::Error::unknown_field(&key, &[])),
            None => Ok(Toggle(true)),
        }
    }
}

impl<'de> Deserialize<'de> for Toggle {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ToggleVisitor)
    }
}

impl JsonSchema for Toggle {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Toggle".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "null", "object"], "maxProperties": 0 })
    }
}
