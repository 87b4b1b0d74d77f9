//! Relative links in Markdown files point to existing files. Anchors and URLs are not checked.

use std::path::Path;

use super::Problem;
use super::source::{SourceFile, Tree};

pub(super) fn check(root: &Path, tree: &Tree) -> Vec<Problem> {
    tree.files
        .iter()
        .filter(|file| file.path.ends_with(".md"))
        .flat_map(|file| links(file).into_iter().map(move |link| (file, link)))
        .filter(|(file, (_, target))| !resolves(root, &file.path, target))
        .map(|(file, (number, target))| {
            Problem::new(&file.path, number, format!("the link to `{target}` is broken"))
        })
        .collect()
}

/// Returns the relative targets with their line numbers, outside code.
fn links(file: &SourceFile) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut is_fenced = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            let line = without_code(line);
            links.extend(targets(&line).map(|target| (index + 1, target.to_owned())));
        }
    }
    links
}

/// Returns the targets of `[…](target)` and `[…]: target`, without title and anchor.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let is_definition = line.trim_start().starts_with('[');
    let defined = line.split_once("]: ").filter(|_| is_definition).map(|(_, target)| target);
    inline
        .chain(defined)
        .filter_map(|target| target.split_whitespace().next())
        .filter(|target| !target.contains(':'))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
}

/// Returns the line without inline `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

fn resolves(root: &Path, from: &str, target: &str) -> bool {
    let base = match target.strip_prefix('/') {
        Some(absolute) => root.join(absolute),
        None => root.join(from).with_file_name("").join(target),
    };
    base.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets_of(text: &str) -> Vec<String> {
        links(&SourceFile::new("a.md", text)).into_iter().map(|(_, target)| target).collect()
    }

    #[test]
    fn relative_targets_are_found_outside_code() {
        let text =
            "[a](b.md#c) and [d](e/f.rs \"title\")\n[g]: h.md\n```\n[i](j.md)\n```\n`[k](l.md)`";
        assert_eq!(targets_of(text), ["b.md", "e/f.rs", "h.md"]);
    }

    #[test]
    fn the_web_and_anchors_are_not_followed() {
        assert_eq!(targets_of("[a](https://b.c/d) [e](#f) [g](mailto:h@i)").len(), 0);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let root = crate::workspace::root();
        let tree = Tree::of(&[(
            "xtask/a.md",
            "[here](Cargo.toml) [up](../Cargo.toml) [root](/Cargo.toml)\n[no](../no/such.md)",
        )]);
        let problems = check(&root, &tree);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, 2);
    }
}
