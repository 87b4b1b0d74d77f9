//! Pure crates use no clock, no IO, no randomness and no collections with hash order.
//!
//! Their tests may.

use super::Problem;
use super::source::{Tree, find_word};

const PURE: [&str; 3] = ["crates/kahn-model/", "crates/kahn-core/", "crates/kahn-worker-core/"];
const FORBIDDEN: [&str; 13] = [
    "tokio",
    "tonic",
    "prost",
    "redis",
    "serde",
    "tracing",
    "rand",
    "Instant::now",
    "SystemTime",
    "std::env",
    "std::thread",
    "HashMap",
    "HashSet",
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.rust()
        .filter(|file| PURE.iter().any(|prefix| file.path.starts_with(prefix)))
        .flat_map(|file| {
            file.shipped_lines().flat_map(move |(number, line)| {
                FORBIDDEN
                    .into_iter()
                    .filter(move |word| find_word(line, word).next().is_some())
                    .map(move |word| {
                        let message = format!("`{word}` is not allowed in a pure crate");
                        Problem::new(&file.path, number, message)
                    })
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn every_forbidden_name_is_found_in_every_pure_crate() {
        for prefix in PURE {
            for word in FORBIDDEN {
                let path = format!("{prefix}src/a.rs");
                assert_eq!(problems(&path, &format!("use {word};\n")), 1, "{path} {word}");
            }
        }
    }

    #[test]
    fn comments_tests_and_other_crates_may_name_them() {
        let lib = "crates/kahn-core/src/lib.rs";
        assert_eq!(problems(lib, "/// Not a HashMap.\nlet a = \"tokio\";\n"), 0);
        assert_eq!(problems(lib, "#[cfg(test)]\nmod tests {\n    use std::thread;\n}\n"), 0);
        assert_eq!(problems("crates/kahn-core/tests/a.rs", "use std::collections::HashMap;"), 0);
        assert_eq!(problems("crates/kahn-worker/src/lib.rs", "use tokio::spawn;"), 0);
        assert_eq!(problems(lib, "let operand = strand;\n"), 0);
    }
}
