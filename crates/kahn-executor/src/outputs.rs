//! Converts the result of a function to outputs.
//!
//! The outputs file of a process is read in `output_file`.

use std::collections::BTreeMap;

use kahn_model::limits::OUTPUT_BYTES_MAX;
use kahn_model::{Name, Outputs, Value};
use serde_json::value::RawValue;

/// The name of the output for a result that is not an object.
const RESULT: &str = "result";

/// Why the result of a function cannot be stored as outputs.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The result is not JSON.
    #[error("result is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// The name of a field is not allowed for an output.
    #[error("field {name:?} of the result cannot be an output: {reason}")]
    BadName {
        /// The field.
        name: String,
        /// What is wrong with the name.
        reason: kahn_model::InvalidName,
    },
    /// The result exceeds the size limit.
    #[error("result has more than {OUTPUT_BYTES_MAX} bytes")]
    TooLong,
}

/// Converts the JSON text of a result to outputs: one per field of an object, none for `null`,
/// and otherwise one named `result`. Values keep their JSON text, because parsing and printing a
/// number may change it. The last of several fields with the same name wins.
///
/// # Errors
///
/// Returns a [`ResultError`] when the result is not JSON, too large, or has invalid field names.
pub fn outputs_of_result(json: &str) -> Result<Outputs, ResultError> {
    let mut outputs = Outputs::default();
    match json.trim_start().as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json)?;
            for (name, value) in fields {
                let name = Name::new(&name).map_err(|reason| {
                    let name = name.chars().take(80).collect();
                    ResultError::BadName { name, reason }
                })?;
                outputs.0.insert(name.as_str().into(), Value::from_json(value.get()));
            }
        }
        _ => {
            let value: &RawValue = serde_json::from_str(json)?;
            if value.get() != "null" {
                outputs.0.insert(RESULT.into(), Value::from_json(value.get()));
            }
        }
    }
    if outputs.is_within_limit() { Ok(outputs) } else { Err(ResultError::TooLong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(json: &str) -> Vec<(String, String)> {
        let outputs = outputs_of_result(json).unwrap().0;
        outputs.iter().map(|(name, value)| (name.to_string(), value.as_json().into())).collect()
    }

    fn refused(json: &str) -> String {
        outputs_of_result(json).unwrap_err().to_string()
    }

    #[test]
    fn an_object_gives_one_output_per_field_and_null_gives_none() {
        let json = r#" {"b": [1, {"x": "}"}], "a": 12345678901234567890123} "#;
        let expected = [("a", "12345678901234567890123"), ("b", r#"[1, {"x": "}"}]"#)];
        assert_eq!(given(json), expected.map(|(name, json)| (name.into(), json.into())));
        assert_eq!(given("null"), []);
        assert_eq!(given("{}"), []);
    }

    #[test]
    fn any_other_result_is_one_output() {
        for json in ["1.50", "\"x\"", "[null]", "false"] {
            assert_eq!(given(json), [("result".to_owned(), json.to_owned())]);
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        assert!(refused(r#"{"a b": 1}"#).contains("a b"));
        assert!(refused("{").contains("not JSON") && refused("").contains("not JSON"));
        assert!(refused("1 2").contains("not JSON"));
        let long = format!("\"{}\"", "x".repeat(OUTPUT_BYTES_MAX));
        assert!(refused(&long).contains("65536"));
    }
}
