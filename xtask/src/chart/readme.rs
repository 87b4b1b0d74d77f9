//! The tables of values in the chart's `README.md`.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::values::Value;

const BEGIN: &str = "<!-- Generated from values.yaml by `cargo xtask chart`: begin -->\n";
const END: &str = "<!-- end -->\n";

/// Returns the text of `README.md` with new tables between the marks.
pub(super) fn with_table(readme: &str, values: &[Value]) -> Result<String> {
    let marks = || format!("README.md lacks the lines `{}` and `{}`", BEGIN.trim(), END.trim());
    let (before, rest) = readme.split_once(BEGIN).with_context(marks)?;
    let (_, after) = rest.split_once(END).with_context(marks)?;
    Ok(format!("{before}{BEGIN}{}\n{END}{after}", tables(values)))
}

/// Returns a table for each section.
fn tables(values: &[Value]) -> String {
    let mut text = String::new();
    let mut section = "";
    for value in values {
        if value.section != section {
            section = &value.section;
            let head = "| Value | Default | Description |\n|---|---|---|";
            let _ = writeln!(text, "\n### {section}\n\n{head}");
        }
        let default = match &*value.default {
            "" => String::new(),
            default => format!("`{}`", in_cell(default)),
        };
        let _ = writeln!(text, "| `{}` | {default} | {} |", value.name(), in_cell(&value.comment));
    }
    text
}

/// Escapes what would end a cell.
fn in_cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::values::parse;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let readme = format!("Before.\n\n{BEGIN}old\n{END}\nAfter.\n");
        let values = parse("# -- First\n\n# `x|y`.\na: 1\n").unwrap();
        let expected = format!(
            "Before.\n\n{BEGIN}\n### First\n\n| Value | Default | Description |\n|---|---|---|\n\
             | `a` | `1` | `x\\|y`. |\n\n{END}\nAfter.\n"
        );
        assert_eq!(with_table(&readme, &values).unwrap(), expected);
        assert_eq!(with_table(&expected, &values).unwrap(), expected);
    }

    #[test]
    fn a_readme_without_marks_is_refused() {
        assert!(with_table("Nothing.", &[]).is_err());
    }
}
