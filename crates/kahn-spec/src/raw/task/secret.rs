//! Raw secrets: a name in place of a string.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::lenient::{SCALAR, Scalar};
use crate::raw::Word;
use crate::raw::record::record;
use crate::span::Spanned;

/// How a secret is passed to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawSecretForm {
    /// As the value of the variable.
    Env,
    /// In a file, whose path is the value of the variable.
    File,
}

record! {
    /// A secret, identified by the name under which workers know it.
    RawSecret {
        /// The name, as in `worker.secrets` of the worker's configuration.
        secret: Word,
        /// `env` for the secret itself, `file` for the path of a file that contains it. Default:
        /// `env`.
        form ("as"): Spanned<RawSecretForm>,
        /// Text put in front of the secret, such as `Bearer `.
        prefix: Spanned<Scalar>,
    }
}

/// A string, or the name of a secret.
#[derive(Debug)]
pub(crate) enum RawValue {
    Text(Scalar),
    Secret(Box<RawSecret>),
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a boolean, or `{ secret: name }`")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<RawValue, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(Scalar(value.into())))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<RawValue, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<RawValue, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<RawValue, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<RawValue, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawValue, A::Error> {
        RawSecret::deserialize(MapAccessDeserializer::new(map))
            .map(|secret| RawValue::Secret(Box::new(secret)))
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // Like a scalar, so that numbers keep their source text.
        d.deserialize_newtype_struct(SCALAR, ValueVisitor)
    }
}

impl JsonSchema for RawValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text_or_secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (text, secret) =
            (generator.subschema_for::<Scalar>(), generator.subschema_for::<RawSecret>());
        json_schema!({ "anyOf": [text, secret] })
    }
}
