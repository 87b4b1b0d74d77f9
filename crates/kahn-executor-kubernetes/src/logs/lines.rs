//! Removes the times in front of lines, and the lines that were copied before.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A longer time is none.
const TIME_BYTES_MAX: usize = 40;

/// A place between two lines: after this many lines with the time of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) time: Timestamp,
    pub(super) n_lines: u64,
}

/// Reads the stream of a container's output, in which each line begins with its time and a space.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The latest line that was begun.
    latest: Option<Place>,
    /// How much of it was copied, without its time.
    n_copied: u64,
    /// Whether its end was copied.
    is_complete: bool,
    at: At,
    /// The latest time in the current stream, and the number of its lines so far.
    in_stream: Option<Place>,
}

/// Where in a line the next byte is.
#[derive(Debug)]
enum At {
    Time(Vec<u8>),
    /// In the text, of which this many bytes were copied before.
    Text {
        n_skipped: u64,
    },
}

impl Default for At {
    fn default() -> Self {
        Self::Time(Vec::new())
    }
}

impl Lines {
    /// Starts after the given place.
    pub(super) fn after(place: Option<Place>) -> Self {
        Self { latest: place, is_complete: true, ..Self::default() }
    }

    /// Begins with another stream, which contains the latest line again.
    pub(super) fn begin(&mut self) {
        self.at = At::default();
        self.in_stream = None;
    }

    /// Returns the time from which on the output is needed, in whole seconds, as it is requested.
    pub(super) fn needed_since(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.latest?.time.as_second()).ok()
    }

    /// Returns the place if the latest line is complete.
    pub(super) fn boundary(&self) -> Option<Place> {
        let is_between = matches!(&self.at, At::Time(bytes) if bytes.is_empty());
        self.latest.filter(|_| self.is_complete && is_between)
    }

    /// Takes bytes of the stream, and returns the text in them that was not copied before.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            bytes = match &mut self.at {
                At::Time(_) => self.take_time(bytes),
                At::Text { .. } => self.take_text(bytes, &mut text),
            };
        }
        text
    }

    fn take_time<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let At::Time(time) = &mut self.at else { return bytes };
        let end = bytes.iter().position(|byte| *byte == b' ' || *byte == b'\n');
        time.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
        let is_none = time.len() > TIME_BYTES_MAX;
        let Some(end) = end.filter(|_| !is_none) else {
            if is_none {
                // No line of a container: something that the node says, such as an error.
                self.at = At::Text { n_skipped: u64::MAX };
            }
            return end.map_or(&[], |end| &bytes[end..]);
        };
        let time = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok());
        self.at = match time {
            Some(time) => self.begin_line(time),
            None => At::Text { n_skipped: u64::MAX },
        };
        match bytes[end] {
            b' ' => &bytes[end + 1..],
            _ => &bytes[end..],
        }
    }

    /// Begins with a line, and returns how much of it to skip.
    fn begin_line(&mut self, time: Timestamp) -> At {
        let n_lines = match self.in_stream {
            Some(before) if before.time == time => before.n_lines + 1,
            _ => 1,
        };
        let here = Place { time, n_lines };
        self.in_stream = Some(here);
        let order = |place: Place| (place.time, place.n_lines);
        match self.latest {
            Some(latest) if order(here) < order(latest) => At::Text { n_skipped: u64::MAX },
            Some(latest) if here == latest && self.is_complete => At::Text { n_skipped: u64::MAX },
            Some(latest) if here == latest => At::Text { n_skipped: self.n_copied },
            _ => {
                (self.latest, self.n_copied, self.is_complete) = (Some(here), 0, false);
                At::Text { n_skipped: 0 }
            }
        }
    }

    fn take_text<'a>(&mut self, bytes: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
        let At::Text { n_skipped } = &mut self.at else { return bytes };
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let n_known = len.min(*n_skipped);
        if *n_skipped != u64::MAX {
            *n_skipped -= n_known;
            let new = &line[usize::try_from(n_known).unwrap_or(line.len())..];
            text.extend_from_slice(new);
            self.n_copied += u64::try_from(new.len()).unwrap_or(0);
            self.is_complete = end.is_some();
        }
        if end.is_some() {
            self.at = At::default();
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "2026-01-02T03:04:05.000000001Z one\n\
                          2026-01-02T03:04:05.000000001Z two\n\
                          2026-01-02T03:04:05.000000002Z \n\
                          2026-01-02T03:04:06Z three\n";

    fn all(lines: &mut Lines, stream: &str) -> String {
        lines.begin();
        String::from_utf8(lines.push(stream.as_bytes())).unwrap()
    }

    #[test]
    fn times_are_removed_wherever_the_stream_is_cut_into_pieces() {
        for size in 1..OUTPUT.len() {
            let mut lines = Lines::default();
            lines.begin();
            let text: Vec<u8> =
                OUTPUT.as_bytes().chunks(size).flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(String::from_utf8(text).unwrap(), "one\ntwo\n\nthree\n", "{size}");
        }
    }

    #[test]
    fn a_stream_that_breaks_anywhere_is_continued_without_a_gap_or_a_repeat() {
        for end in 0..OUTPUT.len() {
            let mut lines = Lines::default();
            let mut text = all(&mut lines, &OUTPUT[..end]);
            text += &all(&mut lines, OUTPUT);
            assert_eq!(text, "one\ntwo\n\nthree\n", "{end}");
            assert_eq!(all(&mut lines, OUTPUT), "", "{end}");
        }
    }

    #[test]
    fn another_start_continues_after_the_place_that_was_kept() {
        for end in 0..OUTPUT.len() {
            let mut lines = Lines::default();
            let mut text = all(&mut lines, &OUTPUT[..end]);
            let Some(place) = lines.boundary() else { continue };
            let mut lines = Lines::after(Some(place));
            text += &all(&mut lines, OUTPUT);
            assert_eq!(text, "one\ntwo\n\nthree\n", "{end}");
        }
    }

    #[test]
    fn what_has_no_time_is_no_output() {
        let mut lines = Lines::default();
        let stream =
            format!("failed to watch file, which is a long message of the node\nx y\n{OUTPUT}");
        assert_eq!(all(&mut lines, &stream), "one\ntwo\n\nthree\n");
    }
}
