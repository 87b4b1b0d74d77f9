//! Raw actions that are more than a string.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::kubernetes::{RawKubernetes, RawVia};
use crate::lenient::Scalar;
use crate::raw::record::record;
use crate::raw::{Entries, OneOrMany, RawLength, RawValue, Word};
use crate::span::Spanned;

/// A name, or a map with more fields.
#[derive(Debug)]
pub(crate) enum Short<T> {
    /// Only the name.
    Name(Box<str>),
    /// The map.
    Full(Box<T>),
}

struct ShortVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ShortVisitor<T> {
    type Value = Short<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a map")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Short<T>, E> {
        Ok(Short::Name(name.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|full| Short::Full(Box::new(full)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ShortVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Short<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Name_or_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "string" }, full] })
    }
}

record! {
    /// A call of a function registered by a worker.
    RawFunction {
        /// The registered name.
        name: Word,
        /// The input. Expressions are allowed in strings. A string that consists of one expression
        /// is replaced by the value of the expression.
        input: Spanned<serde_json::Value>,
    }
}

record! {
    /// A call of a Python function.
    RawPython {
        /// The function, as `module:name`.
        function: Word,
        /// The input. Expressions are allowed in strings. A string that consists of one expression
        /// is replaced by the value of the expression.
        input: Spanned<serde_json::Value>,
        /// The interpreter, such as `/opt/venv/bin/python`. Default: `python3` of the worker.
        interpreter: Spanned<Scalar>,
    }
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawPull {
    /// If the host does not have it.
    Missing,
    /// Before every attempt.
    Always,
    /// Never; the host must have it.
    Never,
}

record! {
    /// A directory of the worker's host that is mounted into a container.
    RawMount {
        /// The path on the host. The worker's configuration restricts which paths may be mounted.
        source: Spanned<Scalar>,
        /// The path in the container.
        target: Spanned<Scalar>,
        /// Whether the container may write to it.
        writable: bool,
    }
}

record! {
    /// A port of a container that is published on the worker's host.
    RawPort {
        /// The port in the container.
        container: Spanned<u16>,
        /// The port on the host. Default: any free port.
        host: u16,
    }
}

record! {
    /// A container that runs to completion.
    RawContainer {
        /// The image.
        image: Spanned<Scalar>,
        /// When to pull it. Default: `missing`.
        pull: RawPull,
        /// The program, replacing the entry point of the image.
        command: OneOrMany<Spanned<Scalar>>,
        /// The arguments, replacing those of the image.
        args: OneOrMany<Spanned<Scalar>>,
        /// The user, as `uid` or `uid:gid`. Default: a user other than root.
        user: Spanned<Scalar>,
        /// Directories of the host to mount.
        mounts: Vec<Spanned<RawMount>>,
        /// Ports to publish on the host.
        ports: Vec<Spanned<RawPort>>,
        /// What runs it: `engine`, the container engine on the worker's host, or `kubernetes`.
        /// Default: `engine`.
        via: RawVia,
        /// What only pods have, with `via: kubernetes`.
        kubernetes: Box<Spanned<RawKubernetes>>,
    }
}

record! {
    /// An HTTP request, optionally repeated until a condition holds.
    RawHttp {
        /// The URL.
        url: Spanned<Scalar>,
        /// The method. Default: `GET`.
        method: Spanned<Scalar>,
        /// The headers: strings, or `{ secret: name, prefix: "Bearer " }`.
        headers: Entries<Spanned<RawValue>>,
        /// A JSON body. Expressions are allowed in strings. A string that consists of one
        /// expression is replaced by the value of the expression.
        json: Spanned<serde_json::Value>,
        /// A text body.
        body: Spanned<Scalar>,
        /// The status codes that mean success, such as `200` or `200-299`. Default: `200-299`.
        expect: OneOrMany<Spanned<Scalar>>,
        /// The timeout of a single request. Default: 30 s.
        timeout: RawLength,
        /// Repeats the request until this CEL condition over `response` (`status`, `headers`,
        /// `body`, `json`) is true.
        until: Spanned<Scalar>,
        /// The delay between two requests. Default: 5 s.
        every: Spanned<RawLength>,
    }
}
