//! The results of attempts: failures, outputs and usage.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{Cause, Failure, Outputs, Usage, Value};
use serde::de::IgnoredAny;

use super::{ConvertError, span, state};
use crate::storage as wire;

/// Encodes a failure.
#[must_use]
pub fn failure_to_wire(failure: &Failure) -> wire::Failure {
    wire::Failure {
        cause: state::cause_number(failure.cause.kind).into(),
        code: failure.cause.code,
        message: failure.message.to_string(),
        exception: failure.exception.to_string(),
    }
}

/// Decodes a failure. Its message is truncated to the limit.
///
/// # Errors
///
/// Returns an error if the cause is unspecified or unknown.
pub fn failure_from_wire(failure: &wire::Failure) -> Result<Failure, ConvertError> {
    let kind = state::cause("failure.cause", failure.cause)?;
    let cause = Cause { kind, code: failure.code };
    Ok(Failure::new(cause, &failure.message).raised(&failure.exception))
}

/// Encodes a set of named values.
#[must_use]
pub fn values_to_wire(values: &BTreeMap<Box<str>, Value>) -> wire::Outputs {
    let values = values.iter().map(|(name, value)| wire::NamedValue {
        name: name.to_string(),
        json: value.as_json().to_owned(),
    });
    wire::Outputs { values: values.collect() }
}

/// Decodes a set of named values.
///
/// # Errors
///
/// Returns an error if a name occurs twice or a value is not JSON.
pub fn values_from_wire(
    field: &'static str,
    values: wire::Outputs,
) -> Result<BTreeMap<Box<str>, Value>, ConvertError> {
    let mut out = BTreeMap::new();
    for wire::NamedValue { name, json } in values.values {
        if let Err(error) = serde_json::from_str::<IgnoredAny>(&json) {
            return Err(ConvertError::NotJson { field, name, reason: error.to_string() });
        }
        if out.contains_key(name.as_str()) {
            return Err(ConvertError::Repeated { field, key: name });
        }
        out.insert(name.into_boxed_str(), Value::from_json(json));
    }
    Ok(out)
}

/// Encodes the outputs of a task.
#[must_use]
pub fn outputs_to_wire(outputs: &Outputs) -> wire::Outputs {
    values_to_wire(&outputs.0)
}

/// Decodes the outputs of a task. Their size is checked elsewhere.
///
/// # Errors
///
/// Returns an error if a name occurs twice or a value is not JSON.
pub fn outputs_from_wire(outputs: wire::Outputs) -> Result<Outputs, ConvertError> {
    values_from_wire("outputs", outputs).map(Outputs)
}

/// Encodes the resource usage of an attempt.
#[must_use]
pub fn usage_to_wire(usage: &Usage) -> wire::Usage {
    wire::Usage {
        elapsed_nanos: span::to_wire(usage.elapsed),
        cpu_nanos: span::to_wire(usage.cpu),
        memory_peak: usage.memory_peak,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}

/// Decodes the resource usage of an attempt. This cannot fail.
#[must_use]
pub fn usage_from_wire(usage: &wire::Usage) -> Usage {
    Usage {
        elapsed: Duration::from_nanos(usage.elapsed_nanos),
        cpu: Duration::from_nanos(usage.cpu_nanos),
        memory_peak: usage.memory_peak,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}
