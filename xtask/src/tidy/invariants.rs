//! Every invariant in ARCHITECTURE.md names tests that exist.
//!
//! An invariant is a list item such as: - **I4** text, guarded by `name_of_test`
//! (kahn-core/tests/a.rs). It may span several lines and name several tests.

use super::Problem;
use super::source::{SourceFile, Tree, find_word};

const DOCUMENT: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(document) = tree.files.iter().find(|file| file.path == DOCUMENT) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for (line, text) in invariants(&document.text) {
        let guards = guards(&text);
        if guards.is_empty() {
            problems.push(Problem::new(DOCUMENT, line, "the invariant is guarded by no test"));
        }
        problems.extend(
            guards
                .iter()
                .filter(|guard| !guard.exists(tree))
                .map(|guard| Problem::new(DOCUMENT, line, guard.problem())),
        );
    }
    problems
}

/// Returns the list items that begin with `**I…**`, with their line numbers.
fn invariants(text: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("- **I") {
            items.push((index + 1, line.to_owned()));
            is_open = true;
        } else if line.starts_with(' ') && is_open {
            let (_, item) = items.last_mut().expect("invariant: an open item was pushed");
            item.push(' ');
            item.push_str(line.trim());
        } else {
            is_open = false;
        }
    }
    items
}

/// A test that guards an invariant, and the file that is said to contain it.
#[derive(Debug, PartialEq, Eq)]
struct Guard<'a> {
    name: &'a str,
    file: Option<&'a str>,
}

/// Returns the names in backticks after "guarded by", each with the path in parentheses after it.
fn guards(item: &str) -> Vec<Guard<'_>> {
    let Some((_, guards)) = item.split_once("guarded by") else { return Vec::new() };
    let parts: Vec<&str> = guards.split('`').collect();
    parts
        .chunks(2)
        .zip(parts.iter().skip(2).step_by(2))
        .filter_map(|(pair, behind)| {
            let name = *pair.get(1)?;
            let file =
                behind.trim_start().strip_prefix('(').and_then(|rest| rest.split(')').next());
            let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            is_name.then_some(Guard { name, file })
        })
        .collect()
}

impl Guard<'_> {
    fn exists(&self, tree: &Tree) -> bool {
        tree.rust().filter(|file| self.is_expected_in(file)).any(|file| defines(file, self.name))
    }

    fn is_expected_in(&self, source: &SourceFile) -> bool {
        self.file.is_none_or(|file| {
            source.path == file || source.path.strip_prefix("crates/") == Some(file)
        })
    }

    fn problem(&self) -> String {
        match self.file {
            Some(file) => format!("there is no test `{}` in {file}", self.name),
            None => format!("there is no test `{}`", self.name),
        }
    }
}

fn defines(file: &SourceFile, name: &str) -> bool {
    file.code
        .lines()
        .any(|line| find_word(line, name).any(|at| line[..at].trim_end().ends_with("fn")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: (&str, &str) =
        ("crates/kahn-core/tests/recovery.rs", "#[test]\nfn recovery_equals_life() {}\n");

    fn messages(document: &str) -> Vec<String> {
        let tree = Tree::of(&[(DOCUMENT, document), TEST]);
        check(&tree).into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn an_invariant_with_an_existing_test_is_well() {
        for guard in [
            "`recovery_equals_life`",
            "`recovery_equals_life` (kahn-core/tests/recovery.rs).",
            "`recovery_equals_life` (crates/kahn-core/tests/recovery.rs)",
        ] {
            let one_line = format!("- **I2** Only `apply` alters state; guarded by {guard}");
            assert!(messages(&one_line).is_empty(), "{guard}");
            let two_lines = format!("- **I2** Only `apply` alters state,\n  guarded by {guard}\n");
            assert!(messages(&two_lines).is_empty(), "{guard}");
        }
    }

    #[test]
    fn missing_tests_are_found() {
        assert_eq!(messages("- **I1** a, guarded by `gone`"), ["there is no test `gone`"]);
        assert_eq!(
            messages("- **I1** a, guarded by `recovery_equals_life` (kahn-core/tests/a.rs)"),
            ["there is no test `recovery_equals_life` in kahn-core/tests/a.rs"]
        );
        assert_eq!(
            messages("- **I1** a, guarded by `recovery_equals_life` and `gone`"),
            ["there is no test `gone`"]
        );
        assert_eq!(messages("- **I1** a"), ["the invariant is guarded by no test"]);
    }

    #[test]
    fn a_mention_in_a_comment_is_not_a_test() {
        let tree = Tree::of(&[
            (DOCUMENT, "- **I1** a, guarded by `gone`"),
            ("crates/a/src/lib.rs", "// fn gone() is gone\nlet gone = 1;\n"),
        ]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn a_repository_without_the_document_has_no_problem() {
        assert_eq!(check(&Tree::of(&[TEST])), []);
    }
}
