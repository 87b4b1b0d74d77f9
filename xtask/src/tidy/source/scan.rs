//! Separates code from comments, strings and tests, without parsing.

use std::ops::Range;

/// Blanks comments and the contents of strings and characters. Every line keeps its length in
/// bytes.
pub(super) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_name = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let (length, is_code) = token(rest, first, is_name);
        let (token, after) = rest.split_at(length);
        if is_code {
            code.push_str(token);
        } else {
            blank(token, &mut code);
        }
        rest = after;
    }
    code
}

/// Returns the length in bytes of the first token of `rest`, and whether it is code.
fn token(rest: &str, first: char, after_name: bool) -> (usize, bool) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if !after_name && let Some(length) = raw_string(rest) {
        return (length, false);
    }
    match first {
        '"' => (quoted(rest, '"'), false),
        '\'' if is_character(rest) => (quoted(rest, '\''), false),
        other => (other.len_utf8(), true),
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Returns the length of a raw string such as `r#"…"#`, with any prefix, if there is one.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len();
    Some(body.find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// Returns the length of a quoted text, including quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// Returns whether this is a character such as `'a'` or `'\n'`, not a lifetime such as `'a`.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => true,
        (Some(_), Some(close)) => close == '\'',
        _ => false,
    }
}

/// Writes blanks, except for line ends and the outer quotes.
fn blank(token: &str, code: &mut String) {
    let quote = token.chars().next().filter(|c| ['"', '\''].contains(c));
    for (at, c) in token.char_indices() {
        let is_outer = at == 0 || at + c.len_utf8() == token.len();
        if c == '\n' || (is_outer && Some(c) == quote) {
            code.push(c);
        } else {
            code.extend(std::iter::repeat_n(' ', c.len_utf8()));
        }
    }
}

/// Returns the lines, counted from 0, of items with `#[cfg(test)]` or a similar attribute.
pub(super) fn test_items(code: &str) -> Vec<Range<usize>> {
    let line_of = |at: usize| code[..at].matches('\n').count();
    code.match_indices("cfg(")
        .filter(|&(at, _)| code[..at].ends_with("#[") || code[..at].ends_with("#!["))
        .filter_map(|(at, _)| {
            let condition = &code[at..at + code[at..].find(']')?];
            let is_test = super::find_word(condition, "test").next().is_some();
            if !is_test || condition.contains("not(") {
                return None;
            }
            let end = if code[..at].ends_with("#![") { code.len() } else { item_end(code, at) };
            Some(line_of(at)..code[..end].lines().count())
        })
        .collect()
}

/// Returns the end of the item whose attribute is at `at`: after its `;` or its closing brace.
pub(crate) fn item_end(code: &str, at: usize) -> usize {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (offset, byte) in code[at..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + offset + 1,
            b'}' => depth -= 1,
            b'[' | b'(' => brackets += 1,
            b']' | b')' => brackets = brackets.saturating_sub(1),
            b';' if depth == 0 && brackets == 0 => return at + offset + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_blank() {
        for (text, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a("b\"c", d)"#, r#"a("    ", d)"#),
            ("a(r#\"b\"c\"#, d)", "a(        , d)"),
            ("'x' 'a '\\'' '{'", "' ' 'a '  ' ' '"),
            ("for 'outer: loop", "for 'outer: loop"),
            ("bar\"é\"", "bar\"  \""),
        ] {
            let code = code(text);
            assert_eq!(code.len(), text.len(), "{text}");
            assert_eq!(code, expected);
        }
    }

    #[test]
    fn items_behind_cfg_test_are_found_to_their_end() {
        let text = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(any(test, x))]\nfn c() {\n{ }\n}\nd\n";
        assert_eq!(test_items(text), [1..3, 4..8]);
        assert!(test_items("#[cfg(not(test))]\nfn a() {}").is_empty());
        assert!(test_items("#[cfg(unix)]\nfn a() {}").is_empty());
        assert_eq!(test_items("#![cfg(test)]\na\nb\n"), std::slice::from_ref(&(0..3)));
    }
}
