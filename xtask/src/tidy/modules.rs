//! Modules are in `foo.rs` beside `foo/`, never in `mod.rs`, so that editor tabs show their names.

use super::Problem;
use super::source::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.rust()
        .filter(|file| file.path.rsplit('/').next() == Some("mod.rs"))
        .map(|file| Problem::new(&file.path, 0, "name it after its module, beside the directory"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mod_file_is_found() {
        let tree = Tree::of(&[("a/src/b/mod.rs", ""), ("a/src/b.rs", ""), ("a/src/submod.rs", "")]);
        assert_eq!(check(&tree).len(), 1);
    }
}
