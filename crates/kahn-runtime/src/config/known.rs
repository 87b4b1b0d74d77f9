//! The known keys, and suggestions for unknown ones.

use serde_json::Value;

use super::tree::{Content, Node};
use super::{ConfigError, Origin, file};

/// The keys of one section, taken from its default.
pub(super) struct Known<'a> {
    section: &'a str,
    defaults: &'a Value,
}

impl<'a> Known<'a> {
    pub(super) fn new(section: &'a str, defaults: &'a Value) -> Self {
        Self { section, defaults }
    }

    /// Returns an error for the first unknown key of a layer.
    pub(super) fn check(&self, layer: &Node) -> Result<(), ConfigError> {
        check(layer, self.defaults, self.section)
    }

    /// Creates a layer from one value given as text. Lists may be comma-separated; lists and tables
    /// may be TOML.
    pub(super) fn parse(&self, path: &[&str], text: &str, origin: &Origin) -> Node {
        let default = path.iter().try_fold(self.defaults, |value, key| value.get(key));
        let looks_like_toml = text.starts_with(['[', '{']);
        let leaf = match default {
            Some(Value::Array(_) | Value::Object(_) | Value::Null) if looks_like_toml => {
                file::parse_value(text, origin).unwrap_or_else(|| Node::scalar(origin, text))
            }
            Some(Value::Array(_)) => Node {
                origin: origin.clone(),
                content: Content::List(
                    text.split(',').map(|item| Node::scalar(origin, item.trim())).collect(),
                ),
            },
            _ => Node::scalar(origin, text),
        };
        path.iter().rev().fold(leaf, |below, &key| Node {
            origin: origin.clone(),
            content: Content::Table([(key.to_owned(), below)].into()),
        })
    }
}

fn check(node: &Node, known: &Value, path: &str) -> Result<(), ConfigError> {
    let (Content::Table(table), Value::Object(fields)) = (&node.content, known) else {
        return Ok(());
    };
    if fields.is_empty() {
        return Ok(());
    }
    for (key, below) in table {
        let Some(default) = fields.get(key) else {
            let format_key = |key: &str| format_key(&below.origin, &format!("{path}.{key}"));
            return Err(ConfigError::Unknown {
                what: "key",
                name: format!("{path}.{key}"),
                origin: below.origin.clone(),
                advice: advice(key, fields.keys().map(String::as_str), format_key),
            });
        };
        check(below, default, &format!("{path}.{key}"))?;
    }
    Ok(())
}

/// Formats a dotted key in the notation of its origin.
fn format_key(origin: &Origin, key: &str) -> String {
    match origin {
        Origin::Variable(_) => format!("KAHN_{}", key.to_uppercase().replace('.', "__")),
        Origin::Default | Origin::File { .. } | Origin::Flag(_) => key.to_owned(),
    }
}

/// Suggests the most similar known name, or lists all of them if none is similar.
pub(super) fn advice<'k>(
    unknown: &str,
    known: impl IntoIterator<Item = &'k str>,
    format_key: impl Fn(&str) -> String,
) -> String {
    let mut ranked: Vec<_> =
        known.into_iter().map(|key| (dissimilarity(unknown, key), key)).collect();
    ranked.sort_unstable();
    match ranked.first() {
        Some(&(dissimilarity, key)) if dissimilarity <= 1 + unknown.chars().count() / 3 => {
            format!("did you mean `{}`?", format_key(key))
        }
        Some(_) => {
            let keys: Vec<_> =
                ranked.iter().map(|&(_, key)| format!("`{}`", format_key(key))).collect();
            format!("known names, most similar first: {}", keys.join(", "))
        }
        None => "no names are known here".to_owned(),
    }
}

/// Like [`distance`], but an abbreviation counts as similar.
fn dissimilarity(unknown: &str, key: &str) -> usize {
    let is_abbreviation = 3 <= unknown.len() && key.starts_with(unknown);
    if is_abbreviation { 1 } else { distance(unknown, key) }
}

/// Returns the Levenshtein distance between two words.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changed_letters() {
        for (from, to, expected) in [
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn advice_names_the_nearest_or_all() {
        let keys = ["listen", "redis"];
        assert_eq!(advice("lisen", keys, str::to_owned), "did you mean `listen`?");
        assert!(advice("zzzzzzzz", keys, str::to_owned).contains("`listen`, `redis`"));
    }
}
