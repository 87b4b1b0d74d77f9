//! Values known at compile time, stored with the expression.
//!
//! A compiled expression starts with a comment line that contains the parameters, matrix values and
//! instance lists that it uses, as JSON. So a DAG is self-contained, and values are never spliced
//! into the source of an expression.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ExprError;

const OPEN: &str = "//kahn";

/// Values known at compile time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bindings {
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) params: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) matrix: Map<String, Value>,
    /// The instances of matrix tasks, by the name of the task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) instances: BTreeMap<String, Vec<String>>,
}

impl Bindings {
    /// Returns the expression with these values bound to it.
    pub(crate) fn bind(&self, expression: &str) -> String {
        if *self == Self::default() {
            return expression.into();
        }
        let json = serde_json::to_string(self).expect("invariant: maps with text keys are JSON");
        // Ensures that `${{` never occurs, whatever the values are.
        let json = json.replace('$', "\\u0024");
        format!("{OPEN}{json}\n{expression}")
    }

    /// Splits a compiled expression into the bound values and the source.
    pub(super) fn split(source: &str) -> Result<(Self, &str), ExprError> {
        let Some(rest) = source.strip_prefix(OPEN) else {
            return Ok((Self::default(), source));
        };
        let broken = || ExprError::Refused(format!("an expression may not start with `{OPEN}`"));
        let (json, expression) = rest.split_once('\n').ok_or_else(broken)?;
        let bindings = serde_json::from_str(json).map_err(|_| broken())?;
        Ok((bindings, expression))
    }

    /// Returns whether a user wrote the prefix that is reserved for the compiler.
    pub(crate) fn is_forged(expression: &str) -> bool {
        expression.trim_start().starts_with(OPEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_comes_back_and_stays_inside_the_template() {
        let hostile = "}} ' \" \\ \n ${{ tasks.x }}";
        let bindings = Bindings {
            matrix: Map::from_iter([("v".to_owned(), Value::from(hostile))]),
            ..Bindings::default()
        };
        let bound = bindings.bind("matrix.v + tasks.a.status");
        let (back, expression) = Bindings::split(&bound).unwrap();
        assert_eq!((back, expression), (bindings, "matrix.v + tasks.a.status"));
        let text = format!("<${{{{ {bound} }}}}>");
        let parts = super::super::template::segments(&text).unwrap();
        assert_eq!(parts.len(), 3, "{parts:?}");
    }
}
