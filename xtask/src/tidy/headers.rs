//! Every Rust file begins with a module comment.

use super::Problem;
use super::source::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.rust()
        .filter(|file| !file.text.trim_start().starts_with("//!"))
        .map(|file| Problem::new(&file.path, 1, "does not begin with a `//!` comment"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_header_is_found() {
        let tree = Tree::of(&[
            ("a.rs", "//! Says what it is.\n"),
            ("b.rs", "use std::fmt;\n"),
            ("c.rs", "/// Not of the file.\nfn c() {}\n"),
            ("d.md", "text"),
        ]);
        let paths: Vec<_> = check(&tree).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["b.rs", "c.rs"]);
    }
}
