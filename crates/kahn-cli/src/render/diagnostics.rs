//! Diagnostics of DAG files, as JSON lines and as text.

use kahn_spec::Diagnostics;

/// Formats diagnostics of a DAG file for stderr: as text, or as one JSON object per line.
pub(crate) fn lines(diagnostics: &Diagnostics, is_json: bool) -> String {
    if !is_json {
        return diagnostics.render_coloured();
    }
    let mut out = String::new();
    for item in &diagnostics.items {
        let mut object = serde_json::to_value(item).unwrap_or_default();
        if let Some(object) = object.as_object_mut() {
            object.insert("file".into(), diagnostics.origin.clone().into());
            let first = item.labels.first();
            object.insert("line".into(), first.map(|label| label.line).into());
            object.insert("column".into(), first.map(|label| label.column).into());
        }
        out.push_str(&format!("{object}\n"));
    }
    out
}
