//! Raw dependencies.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::raw::record::record;
use crate::raw::{RawLength, Word};
use crate::span::Spanned;

/// The event of a dependency that the dependent waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawWhen {
    /// It succeeded.
    Succeeded,
    /// It ended, in any state.
    Completed,
    /// It failed permanently.
    Failed,
    /// Its first attempt started.
    Started,
    /// It is a service and is ready. Not supported yet.
    #[schemars(skip)]
    Ready,
}

/// How strongly a dependent needs a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawNeedKind {
    /// The dependent cannot run without it.
    Required,
    /// The dependent waits for it, but runs without it if it fails or takes too long.
    Optional,
    /// Only the order matters, if both run.
    Soft,
}

/// When a task runs, depending on how its dependencies ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawTrigger {
    /// All dependencies were satisfied.
    AllSucceeded,
    /// All dependencies ended, in any state.
    AllDone,
    /// One dependency was satisfied; the others are not waited for.
    AnySucceeded,
    /// One dependency failed; the others are not waited for.
    AnyFailed,
    /// All dependencies ended and none failed; skipped ones are allowed.
    NoneFailed,
}

record! {
    /// A dependency in full.
    RawNeedSpec {
        /// The task, or one instance of it. The name of a matrix task means all of its instances.
        task: Word,
        /// The event to wait for. Default: `succeeded`.
        when: Spanned<RawWhen>,
        /// How strongly it is needed. Default: `required`.
        kind: RawNeedKind,
        /// How long to wait for it at most.
        timeout: RawLength,
    }
}

/// A dependency: a name, or a map.
#[derive(Debug)]
pub(crate) enum RawNeed {
    Name(Box<str>),
    Spec(Box<RawNeedSpec>),
}

struct NeedVisitor;

impl<'de> Visitor<'de> for NeedVisitor {
    type Value = RawNeed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a task or `{task: name, …}`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<RawNeed, E> {
        Ok(RawNeed::Name(name.into()))
    }

    fn visit_u64<E: Error>(self, name: u64) -> Result<RawNeed, E> {
        Ok(RawNeed::Name(name.to_string().into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawNeed, A::Error> {
        RawNeedSpec::deserialize(MapAccessDeserializer::new(map))
            .map(|spec| RawNeed::Spec(Box::new(spec)))
    }
}

impl<'de> Deserialize<'de> for RawNeed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NeedVisitor)
    }
}

impl JsonSchema for RawNeed {
    fn schema_name() -> Cow<'static, str> {
        "Need".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let spec = generator.subschema_for::<RawNeedSpec>();
        json_schema!({ "anyOf": [{ "type": "string" }, spec] })
    }
}
