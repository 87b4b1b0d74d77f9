//! The files of the repository, with a code-only version of Rust files.
//!
//! The scanner recognizes comments, strings, characters and `#[cfg(test)]` items; it does not
//! parse. A check that needs more should be a clippy lint.

mod scan;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

pub(crate) use scan::item_end;

/// The extensions of text files.
const TEXT: [&str; 15] = [
    "rs", "toml", "md", "proto", "lua", "yaml", "yml", "json", "sh", "py", "txt", "html", "js",
    "css", "tpl",
];
/// Hidden directories that belong to the repository.
const HIDDEN: [&str; 4] = [".cargo", ".ci", ".config", ".github"];
/// Generated directories.
const MADE: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// All text files, ordered by path.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) files: Vec<SourceFile>,
}

/// A text file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// The path relative to the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and the contents of strings blanked; empty unless the file is Rust.
    pub(crate) code: String,
    /// For each line, whether it is test code.
    in_test: Vec<bool>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        collect(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self::new(files))
    }

    /// Marks the files of modules that are declared with `#[cfg(test)]`.
    fn new(mut files: Vec<SourceFile>) -> Self {
        let modules: Vec<String> = files.iter().flat_map(SourceFile::test_modules).collect();
        for file in &mut files {
            let stem = file.path.trim_end_matches(".rs");
            let is_below = |module: &String| {
                stem.strip_prefix(&**module)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if modules.iter().any(is_below) {
                file.in_test.fill(true);
            }
        }
        Self { files }
    }

    /// Iterates over the Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_rust())
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self::new(files.iter().map(|(path, text)| SourceFile::new(path, text)).collect())
    }
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> Result<()> {
    let read = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(read)? {
        let entry = entry.with_context(read)?;
        let kind = entry.file_type().with_context(read)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            let is_ours = !name.starts_with('.') || HIDDEN.contains(&&*name);
            if is_ours && !MADE.contains(&&*name) {
                collect(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if kind.is_file() && is_text(&path) {
            let text =
                fs::read_to_string(entry.path()).with_context(|| format!("reading {path}"))?;
            files.push(SourceFile::new(&path, &text));
        }
    }
    Ok(())
}

fn is_text(path: &str) -> bool {
    let ending = Path::new(path).extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| TEXT.contains(&ending)) || path == ".ci/run"
}

impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { scan::code(text) } else { String::new() };
        let mut in_test = vec![is_test_file(path); text.lines().count()];
        for lines in scan::test_items(&code) {
            in_test[lines].fill(true);
        }
        Self { path: path.to_owned(), text: text.to_owned(), code, in_test }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Returns the paths, without extension, of the modules that are declared with `#[cfg(test)]`.
    fn test_modules(&self) -> Vec<String> {
        let (directory, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = file.trim_end_matches(".rs");
        let home = if ["lib", "main"].contains(&stem) {
            directory.to_owned()
        } else {
            format!("{directory}/{stem}")
        };
        let lines = self.code.lines().zip(&self.in_test).filter(|&(_, &in_test)| in_test);
        lines
            .filter_map(|(line, _)| line.trim().strip_suffix(';')?.rsplit_once("mod "))
            .map(|(_, name)| format!("{home}/{name}"))
            .collect()
    }

    /// Iterates over lines of code with their numbers, without test code.
    pub(crate) fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines(false)
    }

    /// Iterates over lines of test code with their numbers.
    pub(crate) fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines(true)
    }

    fn lines(&self, wanted: bool) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .filter(move |&(index, _)| self.in_test[index] == wanted)
            .map(|(index, line)| (index + 1, line))
    }
}

fn is_test_file(path: &str) -> bool {
    let mut parts = path.split('/');
    let file = parts.next_back().unwrap_or_default();
    file == "tests.rs" || parts.any(|directory| ["tests", "benches"].contains(&directory))
}

/// Returns the positions of `word` in a line of code, except where it is part of a longer name.
pub(crate) fn find_word<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_told_from_tests() {
        let file = SourceFile::new(
            "crates/a/src/lib.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n",
        );
        let shipped: Vec<_> = file.shipped_lines().map(|(number, _)| number).collect();
        assert_eq!(shipped, [1, 6]);
        assert!(
            SourceFile::new("crates/a/tests/b.rs", "fn a() {}").shipped_lines().next().is_none()
        );
    }

    #[test]
    fn files_of_tests_are_told_by_name_and_by_declaration() {
        let tree = Tree::of(&[
            ("tests/src/lib.rs", "fn a() {}"),
            ("crates/a/src/b/tests.rs", "fn a() {}"),
            ("crates/a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod laws;\n"),
            ("crates/a/src/laws.rs", "fn a() {}"),
            ("crates/a/src/laws/more.rs", "fn a() {}"),
            ("crates/a/src/b.rs", "#[cfg(test)]\nmod properties;\nmod c;\n"),
            ("crates/a/src/b/properties.rs", "fn a() {}"),
            ("crates/a/src/b/c.rs", "fn a() {}"),
        ]);
        let shipped = tree.files.iter().filter(|file| file.shipped_lines().next().is_some());
        let shipped: Vec<_> = shipped.map(|file| &*file.path).collect();
        assert_eq!(shipped, ["crates/a/src/lib.rs", "crates/a/src/b.rs", "crates/a/src/b/c.rs"]);
    }

    #[test]
    fn words_are_not_found_inside_longer_names() {
        assert_eq!(find_word("rand::random(strand, rand)", "rand").collect::<Vec<_>>(), [0, 21]);
        assert_eq!(find_word("operand", "rand").count(), 0);
    }
}
