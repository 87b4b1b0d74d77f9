//! Decodes the tree into the raw parts of the file. Continues after errors and reports each one.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::tree::{Key, Kind, Node};
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::lenient::{LENIENT, MANY, SCALAR};
use crate::span::{SPANNED, Span};
use crate::suggest;

/// Decodes `root` and reports all errors.
pub(super) fn decode<T: DeserializeOwned>(root: &Node, source: &str, sink: &mut Sink) -> Option<T> {
    let reports = RefCell::new(std::mem::take(sink));
    let result = T::deserialize(De { node: root, reader: Reader { source, sink: &reports } });
    *sink = reports.into_inner();
    match result {
        Ok(value) => Some(value),
        Err(problem) => {
            sink.push(problem.placed(root.span));
            None
        }
    }
}

/// An error on its way up to the nearest value after which decoding can continue.
#[derive(Debug)]
struct Problem(Box<(Diagnostic, bool)>);

impl Problem {
    fn new(code: Code, message: String) -> Self {
        Self(Box::new((Diagnostic::error(code, message), false)))
    }

    fn help(self, help: Option<String>) -> Self {
        let (diagnostic, is_placed) = *self.0;
        Self(Box::new((diagnostic.maybe_help(help), is_placed)))
    }

    /// Sets the location, unless there is one already.
    fn at(self, span: Span) -> Self {
        let (diagnostic, is_placed) = *self.0;
        if is_placed {
            return Self(Box::new((diagnostic, true)));
        }
        Self(Box::new((diagnostic.at(span), span != Span::NONE)))
    }

    fn placed(self, span: Span) -> Diagnostic {
        self.at(span).0.0
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0.message)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Code::InvalidValue, message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let message = format!("expected {}, found {}", plain(expected), found_text(found));
        Self::new(Code::InvalidValue, message)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Code::InvalidValue, format!("unknown value `{variant}`"))
            .help(suggest::hint(variant, expected.iter().copied()))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Code::UnknownField, format!("unknown field `{field}`"))
            .help(suggest::hint(field, expected.iter().copied()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Code::MissingField, format!("missing field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Code::DuplicateKey, format!("field `{field}` is given twice"))
    }
}

/// Describes what was expected without Rust terms.
fn plain(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" | "u16" | "u32" | "u64" => "a whole number from 0".into(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a sequence" => "a list".into(),
        "a boolean" => "`true` or `false`".into(),
        _ if text.starts_with("struct ") => "a map of fields".into(),
        _ => text,
    }
}

fn found_text(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(value) => {
            let short: String = value.chars().take(40).collect();
            let dots = if short.len() < value.len() { "…" } else { "" };
            format!("text `{short}{dots}`")
        }
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        other => other.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'de> {
    source: &'de str,
    sink: &'de RefCell<Sink>,
}

impl Reader<'_> {
    fn report(self, problem: Problem, span: Span) {
        self.sink.borrow_mut().push(problem.placed(span));
    }
}

#[derive(Clone, Copy)]
struct De<'de> {
    node: &'de Node,
    reader: Reader<'de>,
}

impl<'de> De<'de> {
    fn child(self, node: &'de Node) -> Self {
        Self { node, ..self }
    }

    /// Returns the source text of a scalar that is not a string.
    fn written(self) -> Option<&'de str> {
        let text = self.reader.source.get(self.node.span.range()?)?;
        Some(text.trim()).filter(|text| !text.is_empty() && !text.contains(['\n', '*', '&']))
    }

    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Int(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Kind::Unsigned(value) => visitor.visit_u64(*value),
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text(text) => visitor.visit_borrowed_str(text),
            Kind::List(items) => visitor.visit_seq(Items { at: items.iter(), de: self }),
            Kind::Map(entries) => {
                visitor.visit_map(Entries { at: entries.iter(), next: None, known: None, de: self })
            }
        }
    }
}

impl<'de> Deserializer<'de> for De<'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.visit(visitor).map_err(|problem| problem.at(self.node.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match name {
            SPANNED => visitor.visit_seq(SpanParts::new(self.node.span, self)),
            LENIENT => visitor.visit_seq(OneOrReport(Some(self))),
            MANY => match &self.node.kind {
                Kind::Text(_) | Kind::Map(_) => visitor
                    .visit_seq(Items { at: std::slice::from_ref(self.node).iter(), de: self }),
                _ => self.deserialize_any(visitor),
            },
            SCALAR => match (&self.node.kind, self.written()) {
                (Kind::Bool(_) | Kind::Int(_) | Kind::Unsigned(_) | Kind::Float(_), Some(text)) => {
                    visitor.visit_str(text)
                }
                _ => self.deserialize_any(visitor),
            },
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match &self.node.kind {
            Kind::Map(entries) => {
                let known = Some(fields);
                visitor.visit_map(Entries { at: entries.iter(), next: None, known, de: self })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let result = match &self.node.kind {
            Kind::Text(text) => visitor.visit_enum(Word(text)),
            _ => {
                let found = self.visit(Unexpecting);
                Err(Problem::new(Code::InvalidValue, format!("expected a word, found {}", found?)))
            }
        };
        result.map_err(|problem| problem.at(self.node.span))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// Describes the type of a value.
struct Unexpecting;

impl<'de> Visitor<'de> for Unexpecting {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok(found_text(Unexpected::Unit))
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(found_text(Unexpected::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(found_text(Unexpected::Unsigned(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(found_text(Unexpected::Signed(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(found_text(Unexpected::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(found_text(Unexpected::Str(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Ok(found_text(Unexpected::Seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Ok(found_text(Unexpected::Map))
    }
}

struct Items<'de> {
    at: std::slice::Iter<'de, Node>,
    de: De<'de>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        let Some(node) = self.at.next() else { return Ok(None) };
        seed.deserialize(self.de.child(node)).map(Some).map_err(|problem| problem.at(node.span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.at.len())
    }
}

struct Entries<'de> {
    at: std::slice::Iter<'de, (Key, Node)>,
    next: Option<&'de (Key, Node)>,
    known: Option<&'static [&'static str]>,
    de: De<'de>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Problem;

    /// Returns the next known key. Unknown keys are reported and skipped with their values.
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        for entry in self.at.by_ref() {
            let key = &entry.0;
            if self.known.is_some_and(|known| !known.contains(&key.text.as_str())) {
                let problem = de::Error::unknown_field(&key.text, self.known.unwrap_or(&[]));
                self.de.reader.report(problem, key.span);
                continue;
            }
            self.next = Some(entry);
            return seed.deserialize(KeyDe { key }).map(Some).map_err(|p| p.at(key.span));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let (key, node) = self.next.take().expect("invariant: a value follows its key");
        let span = node.span.or(key.span);
        let span = if is_block(&node.kind) { key.span } else { span };
        seed.deserialize(self.de.child(node)).map_err(|problem| problem.at(span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.at.len())
    }
}

fn is_block(kind: &Kind) -> bool {
    matches!(kind, Kind::Map(_) | Kind::List(_) | Kind::Null)
}

#[derive(Clone, Copy)]
struct KeyDe<'de> {
    key: &'de Key,
}

impl<'de> Deserializer<'de> for KeyDe<'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_borrowed_str(&self.key.text)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match name {
            SPANNED => visitor.visit_seq(SpanParts::new(self.key.span, self)),
            SCALAR => visitor.visit_str(&self.key.text),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_enum(Word(&self.key.text))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any option
    }
}

/// A value with its span: start, end, then the value itself.
struct SpanParts<D> {
    ends: [u32; 2],
    thing: D,
    position: usize,
}

impl<D> SpanParts<D> {
    fn new(span: Span, thing: D) -> Self {
        Self { ends: span.ends(), thing, position: 0 }
    }
}

impl<'de, D: Deserializer<'de, Error = Problem> + Copy> SeqAccess<'de> for SpanParts<D> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        self.position += 1;
        match self.ends.get(self.position - 1) {
            Some(end) => seed.deserialize(end.into_deserializer()).map(Some),
            None => seed.deserialize(self.thing).map(Some),
        }
    }
}

/// Yields one value, or reports an error and yields nothing.
struct OneOrReport<'de>(Option<De<'de>>);

impl<'de> SeqAccess<'de> for OneOrReport<'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        let Some(de) = self.0.take() else { return Ok(None) };
        match seed.deserialize(de) {
            Ok(value) => Ok(Some(value)),
            // The key would be a better location for a block or an empty value. But only the caller
            // knows the key, and returning the error would lose the next value.
            Err(problem) => {
                de.reader.report(problem, de.node.span);
                Ok(None)
            }
        }
    }
}

/// The name of a unit variant.
struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Problem;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Problem> {
        let de: StrDeserializer<'_, Problem> = self.0.into_deserializer();
        Ok((seed.deserialize(de)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Problem> {
        Err(de::Error::custom("a word has no value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Problem> {
        Err(de::Error::custom("a word has no value"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Problem> {
        Err(de::Error::custom("a word has no value"))
    }
}
