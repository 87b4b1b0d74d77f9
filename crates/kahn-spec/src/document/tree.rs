//! YAML as a tree in which every value has a source location.
//!
//! Limits the resources of the parser: nesting, values, aliases and their expansion.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::AliasLimits;

use crate::diagnostic::{Code, DIAGNOSTICS_MAX, Diagnostic};
use crate::raw::RawFile;
use crate::span::Span;

/// Maximum nesting depth. The fields of a DAG file need less than ten levels.
const DEPTH_MAX: usize = 64;
/// Maximum number of values, including those expanded from aliases.
const NODES_MAX: usize = 200_000;

/// Maximum number of values expanded from all aliases together.
const REPLAYED_MAX: usize = 20_000;

/// A value with its span.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

/// The kind and content of a value.
#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A map key with its span.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) span: Span,
    pub(super) text: String,
}

/// Parses `source`, which must hold exactly one document.
pub(super) fn parse(source: &str) -> Result<Node, Diagnostic> {
    serde_saphyr::from_str_with_options::<Root>(source, options())
        .map(|root| root.0)
        .map_err(|error| syntax_error(source, &error))
}

fn options() -> serde_saphyr::Options {
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
        max_nodes: NODES_MAX,
        max_events: 2 * NODES_MAX,
        max_aliases: 10_000,
        max_anchors: 10_000,
        max_recorded_anchor_events: 100_000,
        max_merge_keys: 1_000,
    };
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = REPLAYED_MAX;
    aliases.max_replay_stack_depth = 16;
    serde_saphyr::options! {
        budget: budget,
        alias_limits: aliases,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn syntax_error(source: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let location = error.location();
    let rendered = error.without_snippet().to_string();
    let first_line = rendered.lines().next().unwrap_or("the file cannot be read");
    let message = first_line.split(" at line ").next().unwrap_or(first_line);
    // Remove advice meant for users of the library.
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message);
    let message = message.split("; use ").next().unwrap_or(message);
    let message = message.trim_end_matches(" (defined");
    let lower = message.to_lowercase();
    let code = if lower.contains("duplicate") { Code::DuplicateKey } else { Code::Syntax };
    let diagnostic = Diagnostic::error(code, message.trim_start_matches("error: "));
    let diagnostic = match location {
        Some(location) => diagnostic.at(widened(source, &location)),
        None => diagnostic,
    };
    if lower.contains("budget") || lower.contains("limit") {
        let help = format!(
            "at most {NODES_MAX} values, {DEPTH_MAX} levels deep, are read with their places; \
             a larger DAG goes into a JSON file without mistakes"
        );
        return diagnostic.help(help);
    }
    diagnostic
}

/// Returns the span of `location`, extended to at least one character.
fn widened(source: &str, location: &serde_saphyr::Location) -> Span {
    let span = span_of(location);
    match span.range() {
        Some(range) if range.is_empty() => {
            let rest = source.get(range.start..).unwrap_or("");
            let width = rest.chars().next().map_or(0, char::len_utf8);
            Span::new(range.start, range.start + width)
        }
        _ => span,
    }
}

fn span_of(location: &serde_saphyr::Location) -> Span {
    let span = location.span();
    let known = span.byte_offset().zip(span.byte_len()).and_then(|(start, len)| {
        let start = usize::try_from(start).ok()?;
        Some(Span::new(start, start + usize::try_from(len).ok()?))
    });
    known.unwrap_or(Span::NONE)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<Kind>::deserialize(d)?;
        Ok(Self { span: span_of(&spanned.referenced), kind: spanned.value })
    }
}

/// The root node. Parsing stops early if it cannot be the root of a DAG file.
struct Root(Node);

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<RootKind>::deserialize(d)?;
        Ok(Self(Node { span: span_of(&spanned.referenced), kind: spanned.value.0 }))
    }
}

struct RootKind(Kind);

impl<'de> Deserialize<'de> for RootKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(KindVisitor { is_root: true }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<String>::deserialize(d)?;
        Ok(Self { span: span_of(&spanned.referenced), text: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(KindVisitor { is_root: false })
    }
}

struct KindVisitor {
    is_root: bool,
}

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Kind, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Kind, E> {
        Ok(i64::try_from(value).map_or(Kind::Unsigned(value), Kind::Int))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_string()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.into()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut n_unknown = 0;
        while let Some(entry) = map.next_entry::<Key, Node>()? {
            n_unknown += usize::from(!RawFile::FIELDS.contains(&entry.0.text.as_str()));
            if self.is_root && n_unknown > DIAGNOSTICS_MAX {
                let text =
                    format!("this is not a DAG file: more than {DIAGNOSTICS_MAX} unknown fields");
                return Err(A::Error::custom(text));
            }
            entries.push(entry);
        }
        Ok(Kind::Map(entries))
    }
}
