//! The text format of Prometheus, made from OpenMetrics.
//!
//! The two differ only in the lines that describe a metric: a counter is described under the name
//! of its samples, and neither units nor the end are written.

use std::fmt::Write as _;

pub(super) fn from_open_metrics(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            describe(&mut text, typed, help.take());
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Writes the description of a metric, given its name with its type and its name with its help.
fn describe(text: &mut String, typed: &str, help: Option<(&str, &str)>) {
    let Some((name, kind)) = typed.split_once(' ') else { return };
    let suffix = if kind == "counter" { "_total" } else { "" };
    if let Some((_, help)) = help {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name}{suffix} {help}");
    }
    let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
}
