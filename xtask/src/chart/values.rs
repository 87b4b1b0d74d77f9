//! The values of the chart with their documentation, read from `values.yaml`.
//!
//! The file uses a part of YAML that can be read line by line: block maps, indented by two spaces,
//! whose other values are on the line of their key, and comments above keys. helm reads the same
//! file as YAML.

use anyhow::{Context, Result, bail};

/// A documented value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// The keys from the root.
    pub(super) path: Vec<String>,
    /// The comment above it.
    pub(super) comment: String,
    /// The default as it is written; empty for a map with documented values of its own.
    pub(super) default: String,
    /// The title above it.
    pub(super) section: String,
}

impl Value {
    /// Returns the keys from the root, separated by dots.
    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }

    /// Returns the last key.
    pub(super) fn key(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }
}

/// Parses the text of `values.yaml`.
pub(super) fn parse(text: &str) -> Result<Vec<Value>> {
    let mut parser = Parser::default();
    for (index, line) in text.lines().enumerate() {
        parser.line(line).with_context(|| format!("values.yaml:{}", index + 1))?;
    }
    Ok(parser.values)
}

#[derive(Debug, Default)]
struct Parser {
    values: Vec<Value>,
    section: String,
    /// The lines of the comment so far.
    comment: Vec<String>,
    /// The keys of the maps that contain the current line.
    path: Vec<String>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<()> {
        let content = line.trim_start();
        if content.is_empty() {
            self.comment.clear();
        } else if let Some(title) = content.strip_prefix("# -- ") {
            title.clone_into(&mut self.section);
        } else if let Some(comment) = content.strip_prefix('#') {
            self.comment.push(comment.trim().to_owned());
        } else {
            self.key(content, line.len() - content.len())?;
        }
        Ok(())
    }

    fn key(&mut self, content: &str, indent: usize) -> Result<()> {
        let (key, default) = content.split_once(':').context("is not a key")?;
        let depth = indent / 2;
        if !indent.is_multiple_of(2) || depth > self.path.len() {
            bail!("`{key}` is not indented by two spaces for each level");
        }
        self.path.truncate(depth);
        self.path.push(key.to_owned());
        let comment = std::mem::take(&mut self.comment).join(" ");
        let default = default.trim();
        if comment.is_empty() && !default.is_empty() {
            bail!("`{}` has no comment", self.path.join("."));
        }
        if !comment.is_empty() {
            let (path, section) = (self.path.clone(), self.section.clone());
            self.values.push(Value { path, comment, default: default.to_owned(), section });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_a_path_a_comment_a_default_and_a_section() {
        let text = "# The file.\n\n# -- First\n\na:\n  # One,\n  # and more.\n  b: {}\n\n# -- Second\n\n# Two.\nc: \"x: y\"\n";
        let values = parse(text).unwrap();
        let shown: Vec<_> = values
            .iter()
            .map(|value| (value.name(), &*value.comment, &*value.default, &*value.section))
            .collect();
        assert_eq!(
            shown,
            [
                ("a.b".to_owned(), "One, and more.", "{}", "First"),
                ("c".to_owned(), "Two.", "\"x: y\"", "Second"),
            ]
        );
    }

    #[test]
    fn a_documented_map_is_a_value_without_a_default() {
        let values = parse("# All.\na:\n  # One.\n  b: 1\n").unwrap();
        assert_eq!(values.iter().map(Value::name).collect::<Vec<_>>(), ["a", "a.b"]);
        assert_eq!(values[0].default, "");
        assert_eq!(values[1].key(), "b");
    }

    #[test]
    fn a_value_without_a_comment_is_refused_with_its_line() {
        let error = parse("# One.\na: 1\nb: 2\n").unwrap_err();
        assert_eq!(format!("{error:#}"), "values.yaml:3: `b` has no comment");
    }

    #[test]
    fn what_cannot_be_read_line_by_line_is_refused() {
        for text in ["# One.\na:\n   b: 1\n", "# One.\na:\n  - b\n", "    a: 1\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
