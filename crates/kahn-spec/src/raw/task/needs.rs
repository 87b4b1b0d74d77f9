//! Dependencies as written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::raw::record::record;
use crate::raw::{RawLength, Word};
use crate::span::Spanned;

/// Which moment of a dependency lets the dependent go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawWhen {
    /// It succeeded.
    Succeeded,
    /// It ended, however.
    Completed,
    /// It failed for good.
    Failed,
    /// Its first attempt started.
    Started,
    /// It is a service and answers. Not supported yet.
    #[schemars(skip)]
    Ready,
}

/// How much a dependent depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawNeedKind {
    /// The dependent cannot do without it.
    Required,
    /// The dependent waits for it, and goes on without it when it fails or takes too long.
    Optional,
    /// Order only, if both run.
    Soft,
}

/// When a task runs, given how its dependencies ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawTrigger {
    /// All dependencies were met.
    AllSucceeded,
    /// All dependencies ended, however.
    AllDone,
    /// One was met; the others are not waited for.
    AnySucceeded,
    /// One failed; the others are not waited for.
    AnyFailed,
    /// All ended and none failed; skipped ones do not matter.
    NoneFailed,
}

record! {
    /// A dependency in full.
    RawNeedSpec {
        /// The task, or one instance of it; the name of a matrix task means all its instances.
        task: Word,
        /// Which moment of it counts; `succeeded` when not given.
        when: Spanned<RawWhen>,
        /// How much it matters; `required` when not given.
        kind: RawNeedKind,
        /// For how long it may hold the task back.
        timeout: RawLength,
    }
}

/// A dependency: a name, or more detail.
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
