//! The execution settings of a task.

use std::time::Duration;

use kahn_model::{
    Backoff, BackoffKind, CauseSet, Circuit, ConcurrencyKey, InvalidExceptionPattern, Multiplier,
    OnDisconnect, Profile, RetryPolicy, Timeouts,
};

use super::{ConvertError, ids, resources, selector, span};
use crate::storage as wire;

/// Encodes a profile.
#[must_use]
pub fn to_wire(profile: &Profile) -> wire::Profile {
    let key = |c: &ConcurrencyKey| wire::ConcurrencyKey {
        key: c.key.as_str().to_owned(),
        limit: c.limit,
    };
    wire::Profile {
        resources: Some(resources::to_wire(&profile.resources)),
        selector: Some(selector::to_wire(&profile.selector)),
        retry: Some(retry_to_wire(&profile.retry)),
        timeouts: Some(timeouts_to_wire(&profile.timeouts)),
        priority: profile.priority,
        concurrency: profile.concurrency.iter().map(key).collect(),
        circuit: profile.circuit.as_ref().map(circuit_to_wire),
        on_disconnect: on_disconnect_to_wire(profile.on_disconnect).into(),
        retry_exceptions: profile.retry_exceptions.iter().map(ToString::to_string).collect(),
    }
}

fn retry_to_wire(retry: &RetryPolicy) -> wire::RetryPolicy {
    let kind = match retry.backoff.kind {
        BackoffKind::Fixed => wire::BackoffKind::Fixed,
        BackoffKind::Linear => wire::BackoffKind::Linear,
        BackoffKind::Exponential => wire::BackoffKind::Exponential,
    };
    wire::RetryPolicy {
        max_attempts: retry.max_attempts,
        backoff: kind.into(),
        backoff_initial_nanos: span::to_wire(retry.backoff.initial),
        backoff_max_nanos: span::to_wire(retry.backoff.max),
        backoff_jitter: retry.backoff.jitter,
        causes: retry.on.bits(),
        memory_milli: retry.memory.0,
        timeout_milli: retry.timeout.0,
        crash_limit: retry.crash_limit,
        memory_max: retry.memory_max,
    }
}

/// Encodes the timeouts of a task.
#[must_use]
pub fn timeouts_to_wire(timeouts: &Timeouts) -> wire::Timeouts {
    wire::Timeouts {
        queue_nanos: span::opt_to_wire(timeouts.queue),
        start_nanos: span::opt_to_wire(timeouts.start),
        run_nanos: span::opt_to_wire(timeouts.run),
        grace_nanos: span::opt_to_wire(timeouts.grace),
    }
}

/// Encodes what an attempt does while its worker is disconnected.
#[must_use]
pub fn on_disconnect_to_wire(on_disconnect: OnDisconnect) -> wire::OnDisconnect {
    match on_disconnect {
        OnDisconnect::Keep => wire::OnDisconnect::Keep,
        OnDisconnect::Stop => wire::OnDisconnect::Stop,
    }
}

fn circuit_to_wire(circuit: &Circuit) -> wire::Circuit {
    wire::Circuit {
        key: circuit.key.as_str().to_owned(),
        failures: circuit.failures,
        cool_down_nanos: span::to_wire(circuit.cool_down),
    }
}

/// Decodes a profile.
///
/// # Errors
///
/// Returns an error if the retry policy is missing, an enum value is unknown, or a name or pattern
/// is not valid.
pub fn from_wire(profile: wire::Profile) -> Result<Profile, ConvertError> {
    let retry = profile.retry.ok_or(ConvertError::Missing { field: "profile.retry" })?;
    let concurrency = profile.concurrency.iter().map(concurrency_from_wire);
    Ok(Profile {
        resources: resources::from_wire(profile.resources.unwrap_or_default())?,
        selector: selector::from_wire(profile.selector.unwrap_or_default())?,
        retry: retry_from_wire(&retry)?,
        timeouts: timeouts_from_wire(&profile.timeouts.unwrap_or_default()),
        priority: profile.priority,
        concurrency: concurrency.collect::<Result<_, _>>()?,
        circuit: profile.circuit.as_ref().map(circuit_from_wire).transpose()?,
        on_disconnect: on_disconnect_from_wire(profile.on_disconnect)?,
        retry_exceptions: profile
            .retry_exceptions
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, InvalidExceptionPattern>>()?,
    })
}

fn retry_from_wire(retry: &wire::RetryPolicy) -> Result<RetryPolicy, ConvertError> {
    let on = CauseSet::from_bits(retry.causes);
    if on.bits() != retry.causes {
        return Err(ConvertError::out_of_range("retry.causes", retry.causes, on.bits()));
    }
    Ok(RetryPolicy {
        max_attempts: retry.max_attempts,
        backoff: Backoff {
            kind: backoff_kind_from_wire(retry.backoff)?,
            initial: Duration::from_nanos(retry.backoff_initial_nanos),
            max: Duration::from_nanos(retry.backoff_max_nanos),
            jitter: retry.backoff_jitter,
        },
        on,
        memory: Multiplier(retry.memory_milli),
        timeout: Multiplier(retry.timeout_milli),
        crash_limit: retry.crash_limit,
        memory_max: retry.memory_max,
    })
}

fn backoff_kind_from_wire(found: i32) -> Result<BackoffKind, ConvertError> {
    match wire::BackoffKind::try_from(found) {
        Ok(wire::BackoffKind::Fixed) => Ok(BackoffKind::Fixed),
        Ok(wire::BackoffKind::Linear) => Ok(BackoffKind::Linear),
        Ok(wire::BackoffKind::Exponential) => Ok(BackoffKind::Exponential),
        Ok(wire::BackoffKind::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "retry.backoff", found })
        }
    }
}

/// Decodes what an attempt does while its worker is disconnected.
///
/// # Errors
///
/// Returns an error if the value is unspecified or unknown.
pub fn on_disconnect_from_wire(found: i32) -> Result<OnDisconnect, ConvertError> {
    match wire::OnDisconnect::try_from(found) {
        Ok(wire::OnDisconnect::Keep) => Ok(OnDisconnect::Keep),
        Ok(wire::OnDisconnect::Stop) => Ok(OnDisconnect::Stop),
        Ok(wire::OnDisconnect::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "profile.on_disconnect", found })
        }
    }
}

/// Decodes the timeouts of a task. This cannot fail.
#[must_use]
pub fn timeouts_from_wire(timeouts: &wire::Timeouts) -> Timeouts {
    Timeouts {
        queue: span::opt_from_wire(timeouts.queue_nanos),
        start: span::opt_from_wire(timeouts.start_nanos),
        run: span::opt_from_wire(timeouts.run_nanos),
        grace: span::opt_from_wire(timeouts.grace_nanos),
    }
}

fn concurrency_from_wire(key: &wire::ConcurrencyKey) -> Result<ConcurrencyKey, ConvertError> {
    Ok(ConcurrencyKey { key: ids::name("concurrency.key", &key.key)?, limit: key.limit })
}

fn circuit_from_wire(circuit: &wire::Circuit) -> Result<Circuit, ConvertError> {
    Ok(Circuit {
        key: ids::name("circuit.key", &circuit.key)?,
        failures: circuit.failures,
        cool_down: Duration::from_nanos(circuit.cool_down_nanos),
    })
}
