//! Lists the largest files and functions for review. They are not problems.

use std::fmt::Write;

use super::source::{SourceFile, Tree, find_word, item_end};

/// The number of files and of functions to show.
const SHOWN: usize = 10;

/// Lists the largest files and functions, without tests, largest first.
pub(super) fn report(tree: &Tree) -> String {
    let files = tree.rust().map(|file| (file.shipped_lines().count(), file.path.clone())).collect();
    let functions = tree.rust().flat_map(functions).collect();
    let mut report = String::new();
    append(&mut report, "largest files (lines without tests)", files);
    append(&mut report, "largest functions (lines)", functions);
    report
}

fn append(report: &mut String, title: &str, mut entries: Vec<(usize, String)>) {
    entries.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let _ = writeln!(report, "{title}:");
    for (lines, name) in entries.into_iter().take(SHOWN) {
        let _ = writeln!(report, "{lines:>7}  {name}");
    }
}

/// Returns every function with a body, as its length and `path:line name`.
fn functions(file: &SourceFile) -> Vec<(usize, String)> {
    let mut start = 0;
    let mut found = Vec::new();
    let shipped: Vec<usize> = file.shipped_lines().map(|(number, _)| number).collect();
    for (index, line) in file.code.split_inclusive('\n').enumerate() {
        if shipped.binary_search(&(index + 1)).is_ok()
            && let Some(at) = find_word(line, "fn").next()
        {
            let name = line[at + 2..].trim_start();
            let length =
                name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            if 0 < length {
                let body = &file.code[start + at..item_end(&file.code, start + at)];
                let title = format!("{}:{} {}", file.path, index + 1, &name[..length]);
                found.push((body.lines().count(), title));
            }
        }
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_without_tests() {
        let text = "fn a() {\n    b();\n}\n\nfn c(f: fn(u8)) {}\n\n#[cfg(test)]\nmod tests {\n    fn d() {}\n}\n";
        let file = SourceFile::new("a.rs", text);
        assert_eq!(functions(&file), [(3, "a.rs:1 a".to_owned()), (1, "a.rs:5 c".to_owned())]);
    }

    #[test]
    fn the_largest_come_first_and_only_some_are_shown() {
        let files: Vec<(String, String)> =
            (0..20).map(|n| (format!("f{n:02}.rs"), "x\n".repeat(n))).collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (&**path, &**text)).collect();
        let report = report(&Tree::of(&files));
        let first = report.lines().nth(1).unwrap();
        assert_eq!(first.trim(), "19  f19.rs");
        assert!(!report.contains("f09.rs") && report.contains("f10.rs"));
    }
}
