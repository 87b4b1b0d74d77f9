//! Policies of a whole run.

use kahn_model::{FailurePolicy, RunPolicy};

use super::{ConvertError, span};
use crate::storage as wire;

/// Encodes a policy.
#[must_use]
pub fn to_wire(policy: &RunPolicy) -> wire::RunPolicy {
    let (on_failure, max_failures) = match policy.on_failure {
        FailurePolicy::Continue => (wire::OnFailure::Continue, 0),
        FailurePolicy::FailFast => (wire::OnFailure::FailFast, 0),
        FailurePolicy::MaxFailures(max) => (wire::OnFailure::MaxFailures, max),
    };
    wire::RunPolicy {
        on_failure: on_failure.into(),
        max_failures,
        max_parallel: policy.max_parallel,
        timeout_nanos: span::opt_to_wire(policy.timeout),
        priority: policy.priority,
    }
}

/// Decodes a policy.
///
/// # Errors
///
/// Returns an error if the failure policy is unknown.
pub fn from_wire(policy: &wire::RunPolicy) -> Result<RunPolicy, ConvertError> {
    let found = policy.on_failure;
    let on_failure = match wire::OnFailure::try_from(found) {
        Ok(wire::OnFailure::Continue) => FailurePolicy::Continue,
        Ok(wire::OnFailure::FailFast) => FailurePolicy::FailFast,
        Ok(wire::OnFailure::MaxFailures) => FailurePolicy::MaxFailures(policy.max_failures),
        Ok(wire::OnFailure::Unspecified) | Err(_) => {
            return Err(ConvertError::UnknownValue { field: "policy.on_failure", found });
        }
    };
    Ok(RunPolicy {
        on_failure,
        max_parallel: policy.max_parallel,
        timeout: span::opt_from_wire(policy.timeout_nanos),
        priority: policy.priority,
    })
}
