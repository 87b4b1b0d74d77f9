//! The JSON Schema of the DAG file, for editors.

use serde_json::Value;

use crate::raw::RawFile;

/// Returns the JSON Schema (draft 2020-12) of the DAG file. It is generated from the types that the
/// parser fills, so it contains every field.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(RawFile).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "Kahn DAG file".into());
        root.insert("required".into(), Value::from(vec!["tasks"]));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::{
        RawBackoff, RawCircuit, RawContainer, RawDefaults, RawFile, RawFunction, RawHttp,
        RawKubernetes, RawLabelRule, RawLabels, RawMount, RawNeedSpec, RawParamSpec, RawPodVolume,
        RawPolicy, RawPort, RawPython, RawRetry, RawSecret, RawTask, RawTimeouts, RawToleration,
    };

    const NOT_YET: [&str; 4] = ["service", "dag", "approve", "foreach"];

    #[test]
    fn every_field_that_is_read_is_described() {
        let schema = schema();
        for (name, fields) in [
            ("RawTask", RawTask::FIELDS),
            ("RawDefaults", RawDefaults::FIELDS),
            ("RawPolicy", RawPolicy::FIELDS),
            ("RawParamSpec", RawParamSpec::FIELDS),
            ("RawRetry", RawRetry::FIELDS),
            ("RawBackoff", RawBackoff::FIELDS),
            ("RawTimeouts", RawTimeouts::FIELDS),
            ("RawCircuit", RawCircuit::FIELDS),
            ("RawNeedSpec", RawNeedSpec::FIELDS),
            ("RawLabels", RawLabels::FIELDS),
            ("RawLabelRule", RawLabelRule::FIELDS),
            ("RawFunction", RawFunction::FIELDS),
            ("RawPython", RawPython::FIELDS),
            ("RawContainer", RawContainer::FIELDS),
            ("RawKubernetes", RawKubernetes::FIELDS),
            ("RawToleration", RawToleration::FIELDS),
            ("RawPodVolume", RawPodVolume::FIELDS),
            ("RawMount", RawMount::FIELDS),
            ("RawPort", RawPort::FIELDS),
            ("RawHttp", RawHttp::FIELDS),
            ("RawSecret", RawSecret::FIELDS),
        ] {
            let properties = &schema["$defs"][name]["properties"];
            for field in fields.iter().filter(|field| !NOT_YET.contains(field)) {
                let described = &properties[field]["description"];
                assert!(described.is_string(), "{name}.{field}: {properties:#}");
            }
            let n_known = fields.iter().filter(|field| !NOT_YET.contains(field)).count();
            assert_eq!(properties.as_object().map(serde_json::Map::len), Some(n_known), "{name}");
            assert_eq!(schema["$defs"][name]["additionalProperties"], false, "{name}");
        }
        for field in RawFile::FIELDS {
            assert!(schema["properties"][field]["description"].is_string(), "{field}");
        }
    }

    #[test]
    fn the_examples_fit_the_schema() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
        let schema = schema();
        for name in ["hello.yaml", "matrix.yaml", "failure.yaml", "diamond.json"] {
            let source = std::fs::read_to_string(format!("{examples}/{name}")).unwrap();
            let value: Value = serde_saphyr::from_str(&source).unwrap();
            assert_eq!(mismatch(&schema, &schema, &value, name), None);
        }
        let wrong = serde_json::json!({ "tasks": { "a": { "run": 1.5, "retry": { "max": 1 } } } });
        assert!(mismatch(&schema, &schema, &wrong, "").is_some());
    }

    /// Returns the first mismatch of `value` with `schema`. Supports only the keywords used here.
    fn mismatch(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = root.pointer(&reference[1..]).unwrap();
            return mismatch(root, target, value, at);
        }
        if let Some(options) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let all: Vec<Option<String>> =
                options.iter().map(|option| mismatch(root, option, value, at)).collect();
            if all.iter().all(Option::is_some) {
                return all.into_iter().flatten().next();
            }
        }
        let is_listed =
            |list: &Value| list.as_array().is_none_or(|allowed| allowed.contains(value));
        if !is_listed(&schema["enum"])
            || (schema["const"] != Value::Null && schema["const"] != *value)
        {
            return Some(format!("{at}: {value} is not listed"));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let is_of = |name: &&str| match *name {
            "string" => value.is_string(),
            "integer" => value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "array" => value.is_array(),
            _ => value.is_object(),
        };
        if !types.is_empty() && !types.iter().any(is_of) {
            return Some(format!("{at}: {value} is not {types:?}"));
        }
        if let Some(items) = value.as_array().filter(|_| schema["items"].is_object()) {
            return items.iter().find_map(|item| mismatch(root, &schema["items"], item, at));
        }
        let fields = value.as_object().into_iter().flatten();
        let mut fields = fields.filter(|_| types.contains(&"object"));
        fields.find_map(|(key, field)| {
            let place = format!("{at}.{key}");
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => Some(format!("{place} is unknown")),
                (Value::Null, Value::Object(_)) => {
                    mismatch(root, &schema["additionalProperties"], field, &place)
                }
                (known, _) => mismatch(root, known, field, &place),
            }
        })
    }
}
