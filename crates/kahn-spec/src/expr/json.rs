//! JSON whose texts hold expressions.

use serde_json::Value;

/// The document with every text replaced. Documents come from parsers with a bounded depth.
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
