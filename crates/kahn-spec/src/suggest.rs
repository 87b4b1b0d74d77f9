//! "Did you mean …?" suggestions: the most similar of the valid words.

/// Returns the candidate most similar to `word`, if it is similar enough. If several are equally
/// similar, returns the first.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let chars: Vec<char> = word.chars().take(256).collect();
    let mut limit = (chars.len() / 3).clamp(1, 4) + 1;
    let mut best = None;
    for candidate in candidates {
        if candidate.eq_ignore_ascii_case(word) {
            return Some(candidate);
        }
        if let Some(distance) = distance_below(&chars, candidate, limit) {
            limit = distance;
            best = Some(candidate);
        }
    }
    best
}

/// Returns a hint with the result of [`nearest`], or with all candidates if they are few.
pub(crate) fn hint<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(near) = nearest(word, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let listed: Vec<String> =
        candidates.into_iter().take(13).map(|word| format!("`{word}`")).collect();
    match listed.len() {
        0 | 13 => None,
        1 => Some(format!("only {} is known here", listed[0])),
        _ => Some(format!("known here: {}", listed.join(", "))),
    }
}

/// Returns the Damerau-Levenshtein distance (with adjacent transpositions), if below `limit`.
fn distance_below(word: &[char], other: &str, limit: usize) -> Option<usize> {
    let other: Vec<char> = other.chars().take(word.len() + limit).collect();
    if other.len().abs_diff(word.len()) >= limit {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in word.iter().enumerate() {
        let mut row = vec![i + 1; other.len() + 1];
        for (j, b) in other.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            let is_swap = i > 0 && j > 0 && word[i - 1] == *b && *a == other[j - 1];
            if is_swap {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["needs", "name", "env", "matrix"];
        assert_eq!(nearest("need", words), Some("needs"));
        assert_eq!(nearest("nedes", words), Some("needs"));
        assert_eq!(nearest("NEEDS", words), Some("needs"));
        assert_eq!(nearest("metrix", words), Some("matrix"));
        assert_eq!(nearest("concurrency", words), None);
    }

    #[test]
    fn a_short_list_is_shown_when_nothing_is_near() {
        assert_eq!(hint("xyz", ["keep", "stop"]).unwrap(), "known here: `keep`, `stop`");
        assert_eq!(hint("xyz", []), None);
    }
}
