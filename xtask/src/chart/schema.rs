//! The schema of values: it covers exactly the documented values, and describes them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use super::values::Value;

/// Returns the text of the schema, with the comments of values as descriptions.
///
/// # Errors
///
/// Fails if the schema lacks a value, or has another.
pub(super) fn with_descriptions(schema: &Json, values: &[Value]) -> Result<String> {
    let mut described = schema.clone();
    let mut covered = BTreeSet::new();
    for value in values {
        let Some(pointer) = place_of(schema, &value.path)
            .with_context(|| format!("values.schema.json: {}", value.name()))?
        else {
            continue;
        };
        if let Some(Json::Object(property)) = described.pointer_mut(&pointer) {
            property.insert("description".to_owned(), value.comment.clone().into());
        }
        covered.insert(pointer);
        // The maps that contain it are covered, too.
        for length in 1..value.path.len() {
            covered.extend(place_of(schema, &value.path[..length])?);
        }
    }
    refuse_others(schema, values, &covered)?;
    // The order of keys would otherwise depend on features of other crates.
    described.sort_all_objects();
    Ok(serde_json::to_string_pretty(&described)? + "\n")
}

/// Returns where the schema describes a value, or `None` for one of any number of alike values,
/// such as a pool.
fn place_of(schema: &Json, path: &[String]) -> Result<Option<String>> {
    let mut at = String::new();
    for key in path {
        at = resolved(schema, at);
        let node = schema.pointer(&at).context("a reference leads nowhere")?;
        if node.pointer(&format!("/properties/{key}")).is_some() {
            at = format!("{at}/properties/{key}");
        } else if node.get("additionalProperties").is_some_and(Json::is_object) {
            return Ok(None);
        } else {
            bail!("`{key}` is missing; it must be in `properties` at `{at}`");
        }
    }
    Ok(Some(at))
}

/// Follows the reference at a place, if there is one.
fn resolved(schema: &Json, at: String) -> String {
    let reference = schema.pointer(&at).and_then(|node| node.get("$ref")).and_then(Json::as_str);
    match reference.and_then(|reference| reference.strip_prefix('#')) {
        Some(target) => target.to_owned(),
        None => at,
    }
}

/// Refuses properties that are not documented values, and objects that accept any other property.
fn refuse_others(schema: &Json, values: &[Value], covered: &BTreeSet<String>) -> Result<()> {
    let is_leaf = |pointer: &str| {
        values.iter().any(|value| {
            !value.default.is_empty()
                && place_of(schema, &value.path).ok().flatten().as_deref() == Some(pointer)
        })
    };
    let mut open = vec![resolved(schema, String::new())];
    while let Some(at) = open.pop() {
        let Some(Json::Object(node)) = schema.pointer(&at) else { continue };
        let Some(Json::Object(properties)) = node.get("properties") else { continue };
        if node.get("additionalProperties") != Some(&Json::Bool(false)) {
            bail!("values.schema.json: `{at}` must have `additionalProperties: false`");
        }
        for key in properties.keys().filter(|key| *key != "global") {
            let property = format!("{at}/properties/{key}");
            if !covered.contains(&property) {
                bail!("values.schema.json: `{property}` is not in values.yaml");
            }
            if !is_leaf(&property) {
                open.push(resolved(schema, property));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::values::parse;
    use serde_json::json;

    fn schema() -> Json {
        json!({
            "properties": { "a": { "$ref": "#/$defs/a" }, "b": { "type": "string" } },
            "additionalProperties": false,
            "$defs": { "a": {
                "properties": { "c": { "type": "integer" } },
                "additionalProperties": false,
            } },
        })
    }

    #[test]
    fn comments_become_descriptions_through_references() {
        let values = parse("# All.\na:\n  # Three.\n  c: 1\n# Two.\nb: x\n").unwrap();
        let text = with_descriptions(&schema(), &values).unwrap();
        let described: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(described.pointer("/properties/a/description"), Some(&json!("All.")));
        assert_eq!(described.pointer("/properties/b/description"), Some(&json!("Two.")));
        assert_eq!(described.pointer("/$defs/a/properties/c/description"), Some(&json!("Three.")));
        assert_eq!(with_descriptions(&described, &values).unwrap(), text);
    }

    #[test]
    fn a_value_that_the_schema_lacks_is_refused_by_name() {
        let values = parse("a:\n  # Four.\n  d: 1\n").unwrap();
        let error = format!("{:#}", with_descriptions(&schema(), &values).unwrap_err());
        assert!(error.starts_with("values.schema.json: a.d: `d` is missing"), "{error}");
    }

    #[test]
    fn a_property_that_is_no_value_is_refused() {
        let values = parse("# Two.\nb: x\n").unwrap();
        let error = with_descriptions(&schema(), &values).unwrap_err().to_string();
        assert!(error.contains("`/properties/a` is not in values.yaml"), "{error}");
    }

    #[test]
    fn an_object_that_accepts_anything_is_refused() {
        let mut open = schema();
        open["$defs"]["a"]["additionalProperties"] = json!(true);
        let values = parse("a:\n  # Three.\n  c: 1\n# Two.\nb: x\n").unwrap();
        let error = with_descriptions(&open, &values).unwrap_err().to_string();
        assert!(error.contains("`/$defs/a` must have"), "{error}");
    }
}
