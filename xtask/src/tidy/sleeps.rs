//! Tests do not sleep to wait for a condition.
//!
//! A polling loop with a deadline may sleep on a line marked `// poll`.

use super::Problem;
use super::source::{Tree, find_word};

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.rust()
        .flat_map(|file| {
            let texts: Vec<&str> = file.text.lines().collect();
            let is_imported = imports_sleep(&file.code);
            file.test_lines()
                .filter(|(_, line)| sleeps(line, is_imported))
                .filter(|&(number, _)| !texts[number - 1].contains("// poll"))
                .map(|(number, _)| {
                    let message =
                        "a test sleeps; wait for a condition, and mark the pause `// poll`";
                    Problem::new(&file.path, number, message)
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Returns whether a thread or a task sleeps. `.sleep(` and `Action::sleep(` are something else.
fn sleeps(line: &str, is_imported: bool) -> bool {
    find_word(line, "sleep").filter(|&at| line[at..].starts_with("sleep(")).any(|at| {
        let before = &line[..at];
        let is_plain = !before.ends_with(['.', ':']) && !before.trim_end().ends_with("fn");
        before.ends_with("thread::") || before.ends_with("time::") || (is_imported && is_plain)
    })
}

/// Returns whether an unqualified `sleep` is that of a thread or a task.
fn imports_sleep(code: &str) -> bool {
    code.split(';').any(|statement| {
        let import = find_word(statement, "use").last().map(|at| &statement[at..]);
        import.is_some_and(|import| {
            let names = |word| find_word(import, word).next().is_some();
            names("sleep") && (names("time") || names("thread"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn sleeps_in_tests_are_found() {
        for line in [
            "std::thread::sleep(d);",
            "tokio::time::sleep(d).await;",
            "use tokio::time::{sleep, timeout}; sleep(d).await;",
        ] {
            assert_eq!(problems("crates/a/tests/b.rs", line), 1, "{line}");
            let inline = format!("#[cfg(test)]\nmod tests {{\n    fn a() {{ {line} }}\n}}\n");
            assert_eq!(problems("crates/a/src/b.rs", &inline), 1, "{line}");
        }
    }

    #[test]
    fn polls_products_and_other_sleeps_are_left_alone() {
        assert_eq!(problems("crates/a/tests/b.rs", "thread::sleep(PAUSE); // poll"), 0);
        assert_eq!(problems("crates/a/src/b.rs", "tokio::time::sleep(d).await;"), 0);
        for line in [
            "dag().task(\"a\").sleep(d)",
            "Action::sleep(d)",
            "fn sleep(d: u8) {}",
            "// sleep(1)",
            "let sleep = |d| d; sleep(1);",
            "use std::thread::sleep;",
        ] {
            assert_eq!(problems("crates/a/tests/b.rs", line), 0, "{line}");
        }
    }
}
