//! Which metrics and labels a query names. Its syntax is checked by Prometheus itself.

/// The keywords that a list of labels follows.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What a query names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Metrics, with the labels that their selectors name.
    pub(super) selected: Vec<(String, Vec<String>)>,
    /// Labels by which results are grouped or joined.
    pub(super) grouped: Vec<String>,
    /// Words in other places: functions, operators, and metrics without a selector.
    pub(super) others: Vec<String>,
}

/// Parses a query.
pub(super) fn parse(query: &str) -> Named {
    let tokens = tokens(query);
    let mut named = Named::default();
    let mut at = 0;
    while at < tokens.len() {
        let word = &tokens[at];
        let next = tokens.get(at + 1).map(String::as_str);
        if !is_word(word) {
            at += 1;
        } else if BEFORE_LABELS.contains(&word.as_str()) {
            let labels = up_to(&tokens[at + 1..], ")");
            named.grouped.extend(labels.iter().filter(|label| is_word(label)).cloned());
            at += 1 + labels.len();
        } else if next == Some("{") {
            let labels = up_to(&tokens[at + 1..], "}");
            let names = labels.iter().filter(|label| is_word(label)).cloned().collect();
            named.selected.push((word.clone(), names));
            at += 1 + labels.len();
        } else {
            named.others.push(word.clone());
            at += 1;
        }
    }
    named
}

fn up_to<'a>(tokens: &'a [String], end: &str) -> &'a [String] {
    let n = tokens.iter().position(|token| token == end).unwrap_or(tokens.len());
    &tokens[..n]
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Splits a query into words, numbers and single characters, without strings and spaces. Units belong
/// to their numbers.
fn tokens(query: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for (n, part) in query.split('"').enumerate() {
        // No query has an escaped quote.
        if n % 2 == 1 {
            continue;
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut was_part = false;
        for c in part.chars() {
            match tokens.last_mut() {
                Some(last) if was_part && is_part(c) => last.push(c),
                Some(_) | None if !c.is_whitespace() => tokens.push(c.into()),
                Some(_) | None => {}
            }
            was_part = is_part(c);
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_labels_strings_units_and_functions() {
        let named = parse(
            "sum by (le, kahn_pool) (rate(a_bucket{pool=~\"kahn_x,y\",role!=\"b\"}[5m])) \
             > 7 * 3600 or on () c{} offset 1h and d",
        );
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            named.selected,
            [("a_bucket".into(), words(&["pool", "role"])), ("c".into(), Vec::new())]
        );
        assert_eq!(named.grouped, words(&["le", "kahn_pool"]));
        assert_eq!(named.others, words(&["sum", "rate", "or", "offset", "and", "d"]));
    }
}
