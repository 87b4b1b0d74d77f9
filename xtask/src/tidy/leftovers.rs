//! No leftovers: no notes about open work, no unfinished code, no ignored tests.

use super::Problem;
use super::source::{Tree, find_word};

/// The words, split so that this file does not match.
const WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// The code patterns, split for the same reason.
const CODE: [&str; 3] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let lines = tree.files.iter().flat_map(|file| {
        file.text.lines().enumerate().map(move |(index, line)| (&file.path, index + 1, line))
    });
    lines
        .filter_map(|(path, number, line)| {
            let word = WORDS.into_iter().find(|word| find_word(line, word).next().is_some());
            let found = word.or_else(|| CODE.into_iter().find(|code| line.contains(code)))?;
            Some(Problem::new(path, number, format!("`{found}` is left over")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_found_in_every_kind_of_file() {
        for leftover in WORDS.into_iter().chain(CODE) {
            for path in ["a.rs", "a.md", "a.toml"] {
                let tree = Tree::of(&[(path, &format!("fine\n{leftover} later\n"))]);
                assert_eq!(check(&tree).len(), 1, "{leftover} in {path}");
            }
        }
    }

    #[test]
    fn other_words_are_left_alone() {
        let tree = Tree::of(&[("a.sh", "mktemp /tmp/kahn.XXXXXX\nmastodon, todo\n")]);
        assert_eq!(check(&tree), []);
    }
}
