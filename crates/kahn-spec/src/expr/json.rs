//! JSON with expressions in its strings.

use serde_json::Value;

/// Replaces every string of the document. Recursive: the depth is bounded by the parser.
pub(crate) fn map_texts<E>(
    document: Value,
    replace: &mut impl FnMut(String) -> Result<Value, E>,
) -> Result<Value, E> {
    Ok(match document {
        Value::String(text) => replace(text)?,
        Value::Array(items) => {
            let items = items.into_iter().map(|item| map_texts(item, replace));
            Value::Array(items.collect::<Result<_, E>>()?)
        }
        Value::Object(fields) => {
            let fields = fields
                .into_iter()
                .map(|(key, value)| map_texts(value, replace).map(|value| (key, value)));
            Value::Object(fields.collect::<Result<_, E>>()?)
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    })
}
