//! Line and column numbers, and sanitising text for output.

/// The byte offsets of the line starts.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(source: &str) -> Self {
        let ends = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    /// Returns the line and column of a byte offset, both from 1. Columns count characters.
    pub(super) fn locate(&self, source: &str, at: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= at).saturating_sub(1);
        let before = source.get(self.0[line]..at).unwrap_or("");
        (line + 1, before.chars().count() + 1)
    }
}

/// Replaces all characters that could control a terminal or hide text, each by one of the same
/// length in bytes, so that ranges stay valid.
pub(super) fn readable(text: &str) -> String {
    text.chars().map(|c| if is_safe(c) { c } else { replacement_for(c) }).collect()
}

/// Like [`readable`], truncated to about `max` bytes.
pub(super) fn short(text: &str, max: usize) -> String {
    if text.len() <= max {
        return readable(text);
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", readable(&text[..end]))
}

fn is_safe(c: char) -> bool {
    c == '\n' || c == '\t' || !(c.is_control() || is_bidi_control(c))
}

/// Returns whether `c` reorders the text that follows it on a screen (Boucher and Anderson, "Trojan
/// Source: Invisible Vulnerabilities", USENIX Security 2023).
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn replacement_for(c: char) -> char {
    match c.len_utf8() {
        1 if c == '\r' => ' ',
        1 => '?',
        2 => '¿',
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced_and_lengths_stay() {
        for text in ["a\u{1b}[31mred", "\u{9b}2J", "x\u{202e}y", "tab\tand\nline"] {
            let safe = readable(text);
            assert_eq!(safe.len(), text.len());
            assert!(safe.chars().all(is_safe), "{safe:?}");
        }
        assert_eq!(readable("tab\tand\nline"), "tab\tand\nline");
    }

    #[test]
    fn columns_count_characters() {
        let source = "ä: 1\nöö: x";
        assert_eq!(Lines::of(source).locate(source, 0), (1, 1));
        assert_eq!(Lines::of(source).locate(source, source.len() - 1), (2, 5));
    }
}
