//! Renders diagnostics as text.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, Diagnostics, Label, Severity, place};

/// Longer lines are truncated; they are usually generated.
const LINE_BYTES_MAX: usize = 400;
/// If an excerpt needs more source than this, only its first location is shown.
const EXCERPT_BYTES_MAX: usize = 16 << 10;

pub(super) fn all(all: &Diagnostics, is_coloured: bool) -> String {
    let renderer = if is_coloured { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
    let mut out = String::new();
    for item in &all.items {
        out.push_str(&renderer.render(&[group(all, item)]));
        out.push_str("\n\n");
    }
    if all.omitted > 0 {
        let _ = writeln!(out, "and {} more", all.omitted);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn group<'a>(all: &'a Diagnostics, item: &'a Diagnostic) -> Group<'a> {
    let level = match item.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&*item.message).id(item.code.as_str());
    let group = match item.labels.first() {
        None => title.element(Origin::path(&*all.origin)),
        Some(first) => excerpt(all, item, first, title),
    };
    match &item.help {
        Some(help) => group.element(Level::HELP.message(&**help)),
        None => group,
    }
}

fn excerpt<'a>(
    all: &'a Diagnostics,
    item: &'a Diagnostic,
    first: &Label,
    title: annotate_snippets::Title<'a>,
) -> Group<'a> {
    let source = all.source.as_str();
    let covered = |labels: &[Label]| {
        let start = labels.iter().map(|label| label.range.start).min().unwrap_or(0);
        let end = labels.iter().map(|label| label.range.end).max().unwrap_or(0);
        lines_around(source, start..end)
    };
    let mut labels = item.labels.as_slice();
    if covered(labels).len() > EXCERPT_BYTES_MAX {
        labels = &labels[..1];
    }
    let window = covered(labels);
    let text = &source[window.clone()];
    if window.len() > EXCERPT_BYTES_MAX || text.lines().any(|line| line.len() > LINE_BYTES_MAX) {
        return cut_line(all, first, title);
    }
    let line_start = source[..window.start].bytes().filter(|byte| *byte == b'\n').count() + 1;
    let annotations = labels.iter().enumerate().map(|(position, label)| {
        let kind = if position == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let end = label.range.end.min(window.end);
        let annotation = kind.span(label.range.start - window.start..end - window.start);
        if label.text.is_empty() { annotation } else { annotation.label(&*label.text) }
    });
    let snippet = Snippet::source(place::readable(text))
        .line_start(line_start)
        .path(&*all.origin)
        .fold(true)
        .annotations(annotations);
    title.element(snippet)
}

/// Renders a location on a line that is too long to be shown completely.
fn cut_line<'a>(
    all: &'a Diagnostics,
    label: &Label,
    title: annotate_snippets::Title<'a>,
) -> Group<'a> {
    let source = all.source.as_str();
    let mut start = label.range.start.saturating_sub(40);
    let mut end = (label.range.start + 60).min(source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    while !source.is_char_boundary(end) {
        end += 1;
    }
    let near = place::readable(&source[start..end]).replace(['\n', '\t'], " ");
    title
        .element(Origin::path(&*all.origin).line(label.line).char_column(label.column))
        .element(Level::NOTE.message(format!("near `…{near}…`")))
}

/// Extends `range` to whole lines, without the last line feed.
fn lines_around(source: &str, range: Range<usize>) -> Range<usize> {
    let bytes = source.as_bytes();
    let start = bytes[..range.start.min(bytes.len())].iter().rposition(|byte| *byte == b'\n');
    let from = range.end.min(bytes.len());
    let end = bytes[from..].iter().position(|byte| *byte == b'\n');
    start.map_or(0, |at| at + 1)..end.map_or(bytes.len(), |at| from + at)
}
