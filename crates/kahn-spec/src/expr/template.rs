//! Strings that contain `${{ … }}`.

use super::ExprError;

/// A segment of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    /// Literal text.
    Literal(&'a str),
    /// An expression, to be replaced by its value.
    Expression(&'a str),
}

/// The start of an expression.
pub(crate) const OPEN: &str = "${{";

/// Splits a string into segments. An expression ends at the first `}}` outside of quotes and of
/// nested braces.
pub(crate) fn segments(text: &str) -> Result<Vec<Segment<'_>>, ExprError> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        if start > 0 {
            out.push(Segment::Literal(&rest[..start]));
        }
        let inside = &rest[start + OPEN.len()..];
        let end = end_of(inside).ok_or_else(|| ExprError::Syntax {
            message: "`${{` is not closed with `}}`".into(),
            at: 0,
        })?;
        out.push(Segment::Expression(inside[..end].trim()));
        rest = &inside[end + 2..];
    }
    if !rest.is_empty() {
        out.push(Segment::Literal(rest));
    }
    Ok(out)
}

fn end_of(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut quote = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, _) => {}
        }
        at += 1;
    }
    None
}

/// Returns the expression if the string consists of exactly one expression.
pub(crate) fn whole(text: &str) -> Result<Option<&str>, ExprError> {
    match segments(text)?.as_slice() {
        [Segment::Expression(expression)] => Ok(Some(expression)),
        _ => Ok(None),
    }
}

/// Returns the expression of a condition: the text itself, or the content of its only `${{ … }}`.
pub(crate) fn condition(text: &str) -> Result<&str, ExprError> {
    if !text.contains(OPEN) {
        return Ok(text.trim());
    }
    match segments(text.trim())?.as_slice() {
        [Segment::Expression(expression)] => Ok(expression),
        _ => Err(ExprError::Refused(
            "a condition is one expression; there may be no text before or after `${{ … }}`".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_braces_do_not_end_an_expression() {
        let text = "a ${{ {'x': {'y': \"}}\"}}.x.y }} b${{c}}";
        assert_eq!(
            segments(text).unwrap(),
            [
                Segment::Literal("a "),
                Segment::Expression("{'x': {'y': \"}}\"}}.x.y"),
                Segment::Literal(" b"),
                Segment::Expression("c"),
            ]
        );
    }

    #[test]
    fn an_open_expression_is_an_error() {
        for text in ["${{", "${{ a }", "${{ 'x }}", "a ${{ b }} ${{ {'x': 1 }}"] {
            assert!(segments(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_condition_may_go_without_its_braces() {
        assert_eq!(condition(" a > 1 ").unwrap(), "a > 1");
        assert_eq!(condition("${{ a > 1 }}").unwrap(), "a > 1");
        assert!(condition("${{ a }} && ${{ b }}").is_err());
    }
}
