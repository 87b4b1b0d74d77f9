//! A configuration as a tree of values, each with its origin.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use super::Origin;

/// A value and its origin.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) content: Content,
}

/// The content of a value.
#[derive(Clone)]
pub(super) enum Content {
    Scalar(ValueKind),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn scalar(origin: &Origin, kind: impl Into<ValueKind>) -> Self {
        Self { origin: origin.clone(), content: Content::Scalar(kind.into()) }
    }

    /// Creates a node from a default. Nulls are omitted: they are unset.
    pub(super) fn from_json(json: &serde_json::Value) -> Self {
        let scalar = |kind: ValueKind| Content::Scalar(kind);
        let content = match json {
            serde_json::Value::Null => scalar(ValueKind::Nil),
            serde_json::Value::Bool(flag) => scalar((*flag).into()),
            serde_json::Value::String(text) => scalar(text.as_str().into()),
            serde_json::Value::Number(number) => scalar(number_kind(number)),
            serde_json::Value::Array(items) => {
                Content::List(items.iter().map(Self::from_json).collect())
            }
            serde_json::Value::Object(fields) => Content::Table(
                fields
                    .iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(key, value)| (key.clone(), Self::from_json(value)))
                    .collect(),
            ),
        };
        Self { origin: Origin::Default, content }
    }

    /// Overrides this with `upper`: tables are merged, anything else is replaced.
    pub(super) fn overlay(&mut self, upper: Self) {
        match (&mut self.content, upper.content) {
            (Content::Table(lower), Content::Table(upper)) => {
                for (key, node) in upper {
                    match lower.get_mut(&key) {
                        Some(below) => below.overlay(node),
                        None => {
                            lower.insert(key, node);
                        }
                    }
                }
            }
            (_, content) => *self = Self { origin: upper.origin, content },
        }
    }

    /// Returns the entries of a table; other values have none.
    pub(super) fn into_table(self) -> BTreeMap<String, Self> {
        match self.content {
            Content::Table(table) => table,
            Content::Scalar(_) | Content::List(_) => BTreeMap::new(),
        }
    }

    pub(super) fn into_value(self) -> Value {
        let kind = match self.content {
            Content::Scalar(kind) => kind,
            Content::List(items) => {
                ValueKind::Array(items.into_iter().map(Self::into_value).collect())
            }
            Content::Table(table) => ValueKind::Table(
                table
                    .into_iter()
                    .map(|(key, node)| (key, node.into_value()))
                    .collect::<Map<_, _>>(),
            ),
        };
        Value::new(Some(&self.origin.to_string()), kind)
    }
}

fn number_kind(number: &serde_json::Number) -> ValueKind {
    number
        .as_i64()
        .map(ValueKind::I64)
        .or_else(|| number.as_u64().map(ValueKind::U64))
        .or_else(|| number.as_f64().map(ValueKind::Float))
        .unwrap_or_default()
}
