//! Raw label rules.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::lenient::{Lenient, Scalar};
use crate::raw::record::record;
use crate::raw::{Entries, OneOrMany, Word};
use crate::span::Spanned;

/// The operator of a label rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLabelOp {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    Absent,
}

record! {
    /// A condition on the labels of a worker.
    RawLabelRule {
        /// The label.
        key: Word,
        /// The operator. Default: `in`.
        op: RawLabelOp,
        /// The values for `in` and `not_in`.
        values: OneOrMany<Scalar>,
    }
}

/// Conditions: a map from labels to a value or list of values, or a list of rules.
#[derive(Debug)]
pub(crate) enum RawLabelSet {
    Map(Entries<OneOrMany<Scalar>>),
    Rules(Vec<Spanned<RawLabelRule>>),
}

struct SetVisitor;

impl<'de> Visitor<'de> for SetVisitor {
    type Value = RawLabelSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from labels to values, or a list of rules `{key, op, values}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawLabelSet, A::Error> {
        Entries::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            .map(RawLabelSet::Map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawLabelSet, A::Error> {
        let mut rules = Vec::new();
        while let Some(Lenient(rule)) = seq.next_element()? {
            rules.extend(rule);
        }
        Ok(RawLabelSet::Rules(rules))
    }
}

impl<'de> Deserialize<'de> for RawLabelSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(SetVisitor)
    }
}

impl JsonSchema for RawLabelSet {
    fn schema_name() -> Cow<'static, str> {
        "LabelSet".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<Entries<OneOrMany<Scalar>>>();
        let rules = generator.subschema_for::<Vec<RawLabelRule>>();
        json_schema!({ "anyOf": [map, rules] })
    }
}

record! {
    /// Which workers may run a task, and which are preferred, by their labels.
    RawLabels {
        /// Conditions that must all match.
        require: Spanned<RawLabelSet>,
        /// Preferences: workers that match more of these are preferred.
        prefer: Spanned<RawLabelSet>,
    }
}
