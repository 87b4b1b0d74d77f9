//! What tasks do, as written: the actions that are more than a text.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::lenient::Scalar;
use crate::raw::record::record;
use crate::raw::{Entries, OneOrMany, RawLength, RawValue, Word};
use crate::span::Spanned;

/// A name alone, or a map that says more.
#[derive(Debug)]
pub(crate) enum Short<T> {
    /// The name.
    Name(Box<str>),
    /// All of it.
    Full(Box<T>),
}

struct ShortVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ShortVisitor<T> {
    type Value = Short<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or a map that says more")
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
    /// A call of a function that a worker has registered.
    RawFunction {
        /// The name under which it is registered.
        name: Word,
        /// Its input; expressions are allowed in texts, and a text that is one expression becomes
        /// its value.
        input: Spanned<serde_json::Value>,
    }
}

record! {
    /// A call of a function of Python.
    RawPython {
        /// The function, as `module:name`.
        function: Word,
        /// Its input; expressions are allowed in texts, and a text that is one expression becomes
        /// its value.
        input: Spanned<serde_json::Value>,
        /// The interpreter, such as `/opt/venv/bin/python`; the worker's `python3` when not given.
        interpreter: Spanned<Scalar>,
    }
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawPull {
    /// When it is not there.
    Missing,
    /// Each time.
    Always,
    /// Never: it must be there.
    Never,
}

record! {
    /// A directory of the worker's host that a container sees.
    RawMount {
        /// Where it is on the host; the worker's configuration says what may be mounted.
        source: Spanned<Scalar>,
        /// Where it is in the container.
        target: Spanned<Scalar>,
        /// Whether the container may write to it.
        writable: bool,
    }
}

record! {
    /// A port of a container that can be reached on the worker's host.
    RawPort {
        /// The port in the container.
        container: Spanned<u16>,
        /// The port on the host; any free one when not given.
        host: u16,
    }
}

record! {
    /// A container that runs to its end.
    RawContainer {
        /// The image.
        image: Spanned<Scalar>,
        /// When it is fetched; `missing` when not given.
        pull: RawPull,
        /// The program, in place of the entry point of the image.
        command: OneOrMany<Spanned<Scalar>>,
        /// The arguments, in place of those of the image.
        args: OneOrMany<Spanned<Scalar>>,
        /// Who runs it, as `uid` or `uid:gid`; not root when not given.
        user: Spanned<Scalar>,
        /// What it sees of the host.
        mounts: Vec<Spanned<RawMount>>,
        /// What of it is seen from the host.
        ports: Vec<Spanned<RawPort>>,
    }
}

record! {
    /// A request over HTTP, or several until the answer is as wanted.
    RawHttp {
        /// Where to.
        url: Spanned<Scalar>,
        /// The method; `GET` when not given.
        method: Spanned<Scalar>,
        /// Headers: texts, or `{ secret: name, prefix: "Bearer " }`.
        headers: Entries<Spanned<RawValue>>,
        /// JSON to send; expressions are allowed in texts, and a text that is one expression
        /// becomes its value.
        json: Spanned<serde_json::Value>,
        /// Text to send.
        body: Spanned<Scalar>,
        /// The status codes that mean success, such as `200` or `200-299`; the latter when not
        /// given.
        expect: OneOrMany<Spanned<Scalar>>,
        /// How long one request may take; 30 s when not given.
        timeout: RawLength,
        /// Ask again until this CEL condition over `response` (`status`, `headers`, `body`,
        /// `json`) is true.
        until: Spanned<Scalar>,
        /// The wait between two requests; 5 s when not given.
        every: Spanned<RawLength>,
    }
}
