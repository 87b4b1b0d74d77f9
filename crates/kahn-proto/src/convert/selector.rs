//! Selectors: rules about the labels of workers.

use kahn_model::{LabelRule, Selector};
use wire::LabelOperator as Operator;

use super::ConvertError;
use crate::storage as wire;

/// Encodes a selector.
#[must_use]
pub fn to_wire(selector: &Selector) -> wire::Selector {
    wire::Selector {
        required: selector.required.iter().map(rule_to_wire).collect(),
        preferred: selector.preferred.iter().map(rule_to_wire).collect(),
    }
}

fn rule_to_wire(rule: &LabelRule) -> wire::LabelRule {
    let (operator, key, values) = match rule {
        LabelRule::In { key, values } => (Operator::In, key, values.as_slice()),
        LabelRule::NotIn { key, values } => (Operator::NotIn, key, values.as_slice()),
        LabelRule::Exists { key } => (Operator::Exists, key, [].as_slice()),
        LabelRule::Absent { key } => (Operator::Absent, key, [].as_slice()),
    };
    wire::LabelRule { operator: operator.into(), key: key.clone(), values: values.to_vec() }
}

/// Decodes a selector.
///
/// # Errors
///
/// Returns an error if an operator is unknown or has values that it does not accept.
pub fn from_wire(selector: wire::Selector) -> Result<Selector, ConvertError> {
    Ok(Selector {
        required: rules_from_wire(selector.required)?,
        preferred: rules_from_wire(selector.preferred)?,
    })
}

fn rules_from_wire(rules: Vec<wire::LabelRule>) -> Result<Vec<LabelRule>, ConvertError> {
    rules.into_iter().map(rule_from_wire).collect()
}

fn rule_from_wire(rule: wire::LabelRule) -> Result<LabelRule, ConvertError> {
    let wire::LabelRule { operator: found, key, values } = rule;
    let no_values = || ConvertError::length("label_rule.values", values.len(), 0);
    match Operator::try_from(found) {
        Ok(Operator::In) => Ok(LabelRule::In { key, values }),
        Ok(Operator::NotIn) => Ok(LabelRule::NotIn { key, values }),
        Ok(Operator::Exists) => no_values().map(|()| LabelRule::Exists { key }),
        Ok(Operator::Absent) => no_values().map(|()| LabelRule::Absent { key }),
        Ok(Operator::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "label_rule.operator", found })
        }
    }
}
