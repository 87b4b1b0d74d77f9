//! Escapes the output of tasks so that it is safe to print on a terminal.
//!
//! Printable characters, line feeds and tabs are kept. Colours (well-formed SGR sequences) are
//! removed: they carry no text and can hide some. Everything else is escaped, as `\x1b` or
//! `\u{202e}`: control characters, characters that reorder or hide text, and invalid UTF-8.
//! Sequences and characters may be split between two pieces.

use std::fmt::Write as _;

/// Maximum length of a colour sequence.
const SGR_BYTES_MAX: usize = 64;

/// Escapes one output, piece by piece.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain {
    /// An incomplete sequence or character.
    rest: Vec<u8>,
}

/// The token at a position of an output.
enum Found {
    /// This many bytes to print unchanged.
    Text(usize),
    /// This many bytes to remove.
    Colour(usize),
    /// A character to escape, with its length in bytes.
    Character(char, usize),
    /// A byte that is not part of a character.
    Byte(u8),
    /// An incomplete token; more input is needed.
    Beginning,
}

impl Plain {
    /// Returns the text to print for the next piece.
    pub(crate) fn take(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let (text, n_taken) = translate(&self.rest, false);
        self.rest.drain(..n_taken);
        text
    }

    /// Returns the text to print at the end.
    pub(crate) fn finish(&mut self) -> String {
        let (text, _) = translate(&self.rest, true);
        self.rest.clear();
        text
    }
}

fn translate(bytes: &[u8], is_end: bool) -> (String, usize) {
    let mut text = String::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match look(&bytes[at..], is_end) {
            Found::Text(n) => {
                text.push_str(&String::from_utf8_lossy(&bytes[at..at + n]));
                at += n;
            }
            Found::Colour(n) => at += n,
            Found::Character(c, n) => {
                show(&mut text, c);
                at += n;
            }
            Found::Byte(byte) => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\x{byte:02x}");
                at += 1;
            }
            Found::Beginning => break,
        }
    }
    (text, at)
}

fn show(text: &mut String, c: char) {
    let _ = match c {
        '\r' => write!(text, "\\r"),
        c if u32::from(c) < 0x100 => write!(text, "\\x{:02x}", u32::from(c)),
        c => write!(text, "\\u{{{:04x}}}", u32::from(c)),
    };
}

fn look(bytes: &[u8], is_end: bool) -> Found {
    let n_plain = bytes.iter().take_while(|byte| is_plain_ascii(**byte)).count();
    if n_plain > 0 {
        return Found::Text(n_plain);
    }
    match bytes {
        [] => Found::Beginning,
        [b'\x1b', ..] => look_at_escape(bytes, is_end),
        [b'\r'] if !is_end => Found::Beginning,
        // A line ending with a carriage return, which is removed.
        [b'\r', b'\n', ..] => Found::Colour(1),
        [byte, ..] if byte.is_ascii() => Found::Character(char::from(*byte), 1),
        _ => look_at_character(bytes, is_end),
    }
}

fn is_plain_ascii(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\t')
}

/// Returns the colour at the start of `bytes`, or the escape character if it is not a colour.
fn look_at_escape(bytes: &[u8], is_end: bool) -> Found {
    let escape = Found::Character('\x1b', 1);
    let head = &bytes[..bytes.len().min(SGR_BYTES_MAX)];
    let may_grow = !is_end && head.len() == bytes.len() && head.len() < SGR_BYTES_MAX;
    match head.get(1) {
        None if may_grow => return Found::Beginning,
        Some(b'[') => {}
        _ => return escape,
    }
    let is_parameter = |byte: &&u8| matches!(**byte, b'0'..=b'9' | b';' | b':');
    let n = 2 + head[2..].iter().take_while(is_parameter).count();
    match head.get(n) {
        Some(b'm') => Found::Colour(n + 1),
        None if may_grow => Found::Beginning,
        _ => escape,
    }
}

fn look_at_character(bytes: &[u8], is_end: bool) -> Found {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => {
            let is_cut = error.error_len().is_none() && head.len() == bytes.len() && !is_end;
            match std::str::from_utf8(&head[..error.valid_up_to()]) {
                Ok("") if is_cut => return Found::Beginning,
                Ok(text) => text,
                Err(_) => "",
            }
        }
    };
    match valid.chars().next() {
        None => Found::Byte(bytes[0]),
        Some(c) if c.is_control() || is_misleading(c) => Found::Character(c, c.len_utf8()),
        Some(c) => Found::Text(c.len_utf8()),
    }
}

/// Returns whether a character reorders text, ends a line or is invisible.
fn is_misleading(c: char) -> bool {
    matches!(
        c,
        '\u{061c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> String {
        let mut plain = Plain::default();
        plain.take(bytes) + &plain.finish()
    }

    #[test]
    fn what_steers_a_terminal_is_shown_and_not_obeyed() {
        for (bytes, shown) in [
            (&b"\x1b[2J\x1b[H"[..], "\\x1b[2J\\x1b[H"),
            (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            (b"\x1b]52;c;cm0gLXJm\x1b\\", "\\x1b]52;c;cm0gLXJm\\x1b\\"),
            (b"\x1bP+q\x1b\\", "\\x1bP+q\\x1b\\"),
            ("\u{9b}2J".as_bytes(), "\\x9b2J"),
            (b"\x9b2J", "\\x9b2J"),
            (b"safe\rfake", "safe\\rfake"),
            (b"a\x08b\x7f\x00", "a\\x08b\\x7f\\x00"),
            ("a\u{202e}b\u{2066}c\u{200f}".as_bytes(), "a\\u{202e}b\\u{2066}c\\u{200f}"),
            ("x\u{e0041}\u{2028}".as_bytes(), "x\\u{e0041}\\u{2028}"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            (b"\xe2\x82", "\\xe2\\x82"),
        ] {
            assert_eq!(plain(bytes), shown, "{bytes:?}");
        }
    }

    #[test]
    fn text_stays_as_it_is_and_colours_are_left_out() {
        for (bytes, shown) in [
            ("größer ✓ 👩‍👩‍👧\n\tnext\r\n", "größer ✓ 👩‍👩‍👧\n\tnext\n"),
            ("\x1b[1;31mred\x1b[0m \x1b[38:5:9mx\x1b[m", "red x"),
            ("\x1b[31", "\\x1b[31"),
            ("\x1b[31x", "\\x1b[31x"),
            ("\x1b[?25l", "\\x1b[?25l"),
        ] {
            assert_eq!(plain(bytes.as_bytes()), shown, "{bytes:?}");
        }
        let long = format!("\x1b[{}m", "1;".repeat(40));
        assert!(plain(long.as_bytes()).starts_with("\\x1b[1;"));
    }

    #[test]
    fn sequences_and_characters_may_be_cut_anywhere() {
        let text = "ö\x1b[1;31mred\x1b[0m\r\n✓\x1b]0;t\x07\u{202e}\u{9b}👩\rend\x1b".as_bytes();
        let whole = plain(text);
        for at in 0..=text.len() {
            let mut cut = Plain::default();
            let shown = cut.take(&text[..at]) + &cut.take(&text[at..]) + &cut.finish();
            assert_eq!(shown, whole, "cut at {at}");
        }
        let mut bytewise = Plain::default();
        let mut shown: String = text.iter().map(|byte| bytewise.take(&[*byte])).collect();
        shown += &bytewise.finish();
        assert_eq!(shown, whole);
    }
}
