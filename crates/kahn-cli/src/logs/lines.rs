//! Splits output into lines, independent of piece boundaries.

/// Maximum length of a line; longer lines are split.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A line, or a part of a long line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Offset in the output, in bytes.
    pub offset: u64,
    /// The contents without the line feed.
    pub bytes: Vec<u8>,
    /// Whether the line continues or has no line feed.
    pub is_partial: bool,
}

/// Assembles pieces into lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// The offset of `rest`.
    offset: u64,
    rest: Vec<u8>,
}

impl Lines {
    /// Adds a piece and returns the lines that it completes.
    pub(super) fn take(&mut self, offset: u64, piece: &[u8]) -> Vec<Line> {
        if self.rest.is_empty() {
            self.offset = offset;
        }
        self.rest.extend_from_slice(piece);
        let mut lines = Vec::new();
        let mut start = 0;
        loop {
            let rest = &self.rest[start..];
            let head = &rest[..rest.len().min(LINE_BYTES_MAX)];
            let (n, skip) = match head.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end, 1),
                None if head.len() == LINE_BYTES_MAX => (LINE_BYTES_MAX, 0),
                None => break,
            };
            let bytes = head[..n].to_vec();
            lines.push(Line { offset: self.offset, bytes, is_partial: skip == 0 });
            start += n + skip;
            self.offset += u64::try_from(n + skip).unwrap_or(0);
        }
        self.rest.drain(..start);
        lines
    }

    /// Returns the remaining partial line at the end of the output.
    pub(super) fn finish(&mut self) -> Option<Line> {
        let bytes = std::mem::take(&mut self.rest);
        let line = Line { offset: self.offset, bytes, is_partial: true };
        (!line.bytes.is_empty()).then_some(line)
    }
}

/// Returns the last `n` lines of an output that starts at `offset`, with their offset, or `None` if
/// the first of them may start before `offset`.
pub(crate) fn last_lines(offset: u64, bytes: &[u8], n: usize) -> Option<(u64, &[u8])> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = match n.checked_sub(1) {
        None => Some(bytes.len()),
        Some(n_before) => ends.map(|(at, _)| at + 1).nth(n_before),
    };
    match start {
        Some(start) => Some((offset + u64::try_from(start).unwrap_or(0), &bytes[start..])),
        None if offset == 0 => Some((0, bytes)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(offset: u64, text: &str, is_partial: bool) -> Line {
        Line { offset, bytes: text.into(), is_partial }
    }

    #[test]
    fn lines_are_whole_wherever_pieces_are_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(10, b"one\ntw"), [line(10, "one", false)]);
        assert_eq!(lines.take(16, b""), []);
        assert_eq!(lines.take(16, b"o\n\nend"), [line(14, "two", false), line(18, "", false)]);
        assert_eq!(lines.finish(), Some(line(19, "end", true)));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn a_line_without_end_comes_in_parts() {
        let mut lines = Lines::default();
        let found = lines.take(0, &vec![b'x'; LINE_BYTES_MAX * 2 + 5]);
        assert_eq!(found.iter().map(|line| line.offset).collect::<Vec<_>>(), [0, 65_536]);
        assert!(found.iter().all(|line| line.is_partial));
        assert_eq!(lines.take(131_077, b"\n"), [line(131_072, "xxxxx", false)]);
    }

    #[test]
    fn a_tail_is_so_many_lines_or_asks_for_more() {
        let found = |offset, text: &'static str, n| {
            last_lines(offset, text.as_bytes(), n)
                .map(|(at, bytes)| (at, std::str::from_utf8(bytes).unwrap()))
        };
        assert_eq!(found(5, "a\nb\nc\n", 2), Some((7, "b\nc\n")));
        assert_eq!(found(5, "a\nb\nc", 2), Some((7, "b\nc")));
        assert_eq!(found(5, "a\nb\n", 2), None);
        assert_eq!(found(0, "a\nb\n", 2), Some((0, "a\nb\n")));
        assert_eq!(found(0, "", 3), Some((0, "")));
        assert_eq!(found(5, "a\n", 0), Some((7, "")));
    }
}
