//! Parses the configuration file: TOML, with the line of every value.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use config::ValueKind;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::tree::{Content, Node};
use super::{ConfigError, Origin};

/// Reads a file. Returns `None` if it is absent and not required.
pub(super) fn read(path: &Path, is_required: bool) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_required => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

/// Parses a file. Errors do not quote it, because the line may contain a secret.
pub(super) fn parse(path: &Path, text: &str) -> Result<Node, ConfigError> {
    let at = |offset: usize| {
        let line = 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
        Origin::File { path: path.to_owned(), line }
    };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Malformed {
        origin: at(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    Ok(table_node(table.into_inner(), at(0), &at))
}

/// Parses a single value from a variable or flag.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(value_node(value, origin.clone(), &|_| origin.clone()))
}

fn table_node(table: DeTable<'_>, origin: Origin, at: &dyn Fn(usize) -> Origin) -> Node {
    let entries = table.into_iter().map(|(key, value)| {
        let origin = at(key.span().start);
        (key.into_inner().into_owned(), value_node(value, origin, at))
    });
    Node { origin, content: Content::Table(entries.collect()) }
}

fn value_node(value: Spanned<DeValue<'_>>, origin: Origin, at: &dyn Fn(usize) -> Origin) -> Node {
    let start = value.span().start;
    match value.into_inner() {
        DeValue::Table(table) => table_node(table, origin, at),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| {
                let origin = at(item.span().start);
                value_node(item, origin, at)
            });
            Node { origin, content: Content::List(items.collect()) }
        }
        scalar => {
            let scalar = ValueDeserializer::from(Spanned::new(start..start, scalar));
            Node::scalar(&origin, scalar_kind(scalar))
        }
    }
}

fn scalar_kind(scalar: ValueDeserializer<'_>) -> ValueKind {
    match toml::Value::deserialize(scalar) {
        Ok(toml::Value::String(text)) => text.into(),
        Ok(toml::Value::Integer(number)) => number.into(),
        Ok(toml::Value::Float(number)) => number.into(),
        Ok(toml::Value::Boolean(flag)) => flag.into(),
        Ok(toml::Value::Datetime(at)) => at.to_string().into(),
        Ok(toml::Value::Array(_) | toml::Value::Table(_)) | Err(_) => ValueKind::Nil,
    }
}
