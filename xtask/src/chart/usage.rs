//! Every value is used by a template.

use super::Chart;

/// Returns a problem for each value that no template names.
pub(super) fn check(chart: &Chart) -> Vec<String> {
    let is_used = |key: &str| names(&chart.templates, key);
    chart
        .values
        .iter()
        // The names of pools are up to the user.
        .filter(|value| value.path.len() < 2 || value.path[0] != "pools")
        .filter(|value| !is_used(value.key()))
        .map(|value| format!("values.yaml: no template uses `{}`", value.name()))
        .collect()
}

/// Returns whether a text contains `.key` as a whole word.
fn names(text: &str, key: &str) -> bool {
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(&format!(".{key}"))
        .any(|(start, found)| is_end(&text[start + found.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_only_as_a_whole_word_after_a_dot() {
        assert!(names("{{ .Values.image.tag }}", "tag"));
        assert!(names("{{- with $pool.tags -}} {{ .tag}}", "tag"));
        assert!(!names("{{ .Values.image.tags }} tag", "tag"));
    }
}
