//! Parses YAML. The tasks are decoded one by one while the file is parsed, so that the tree of only
//! one task is in memory; that of a million tasks would take gigabytes.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess};

use super::tree::{Content, Key, Kind, KindVisitor, Node};
use super::{decode, limit};
use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Sink};
use crate::raw::{Entries, RawFile, RawTask};
use crate::span::{Span, Spanned};

/// The field of the file whose entries are decoded one by one.
const TASKS: &str = "tasks";

/// Parses and decodes `source`, which must contain exactly one document. Invalid values are
/// reported.
///
/// # Errors
///
/// Returns what prevents the file from being parsed. Nothing is reported then.
pub(super) fn parse(source: &str, sink: &mut Sink) -> Result<Option<RawFile>, Diagnostic> {
    let mut found = Sink::default();
    let mut tasks = None;
    let root = Root { source, sink: &mut found, tasks: &mut tasks };
    let options = limit::options(source.len());
    let read = |de: serde_saphyr::Deserializer<'_, '_>| de.deserialize_any(KindVisitor(root));
    let kind = serde_saphyr::with_deserializer_from_str_with_options(source, options, read)
        .map_err(|error| limit::diagnostic(source, &error))?;
    sink.append(found);
    let root = Node { span: start_of(source), kind };
    let file: Option<RawFile> = decode::decode(&root, source, sink);
    Ok(file.map(|file| RawFile { tasks: tasks.or(file.tasks), ..file }))
}

/// Returns the location of the first character that is not part of a comment.
fn start_of(source: &str) -> Span {
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let text = line.trim_start();
        if let Some(first) = text.chars().next().filter(|first| *first != '#') {
            let start = at + line.len() - text.len();
            return Span::new(start, start + first.len_utf8());
        }
        at += line.len();
    }
    Span::NONE
}

/// Reads the fields of the file. The decoded tasks are stored in `tasks`, and are an empty map in
/// the tree.
struct Root<'a> {
    source: &'a str,
    sink: &'a mut Sink,
    tasks: &'a mut Option<Entries<RawTask>>,
}

impl Content for Root<'_> {
    /// Stops early if this cannot be a DAG file.
    fn map<'de, A: MapAccess<'de>>(mut self, mut map: A) -> Result<Kind, A::Error> {
        let mut fields: Vec<(Key, Node)> = Vec::new();
        let mut n_unknown = 0;
        while let Some(key) = map.next_key::<Key>()? {
            n_unknown += usize::from(!RawFile::FIELDS.contains(&key.text.as_str()));
            if n_unknown > DIAGNOSTICS_MAX {
                let text =
                    format!("this is not a DAG file: more than {DIAGNOSTICS_MAX} unknown fields");
                return Err(A::Error::custom(text));
            }
            let value = match key.text.as_str() {
                // An invalid value is reported at the key.
                TASKS => Node { span: Span::NONE, kind: map.next_value_seed(Tasks(&mut self))? },
                _ => map.next_value()?,
            };
            fields.push((key, value));
        }
        Ok(Kind::Map(fields))
    }

    /// Skips the items, because a list is not a DAG file.
    fn list<'de, A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Kind::List(Vec::new()))
    }
}

/// Reads the field `tasks`.
struct Tasks<'a, 'b>(&'b mut Root<'a>);

impl<'de> DeserializeSeed<'de> for Tasks<'_, '_> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Kind, D::Error> {
        d.deserialize_any(KindVisitor(self))
    }
}

impl Content for Tasks<'_, '_> {
    fn map<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let Root { source, sink, tasks } = self.0;
        let tasks = &mut tasks.get_or_insert_default().0;
        while let Some((key, node)) = map.next_entry::<Key, Node>()? {
            // A repeated key is an error of the parser.
            if let Some(task) = decode::decode(&node, source, sink) {
                tasks.push((Spanned::new(key.text.into(), key.span), task));
            }
        }
        Ok(Kind::Map(Vec::new()))
    }

    fn list<'de, A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Kind::List(Vec::new()))
    }
}
