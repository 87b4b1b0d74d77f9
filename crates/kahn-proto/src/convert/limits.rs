//! The limits of [`kahn_model::limits`], asked of what comes from outside.
//!
//! Apart from `from_wire`, so that what was taken on under other limits can still be read.

use std::time::Duration;

use kahn_model::{Action, Dag, FailurePolicy, Profile, Text, Work, limits};

use super::ConvertError;

/// Checks a DAG that somebody submits.
///
/// # Errors
///
/// Names the first limit that is passed.
pub fn check(dag: &Dag) -> Result<(), ConvertError> {
    spans("policy.timeout", dag.policy().timeout)?;
    if dag.policy().on_failure == FailurePolicy::MaxFailures(0) {
        return Err(ConvertError::out_of_range("policy.max_failures", 0, 1));
    }
    if dag.policy().max_parallel == Some(0) {
        return Err(ConvertError::out_of_range("policy.max_parallel", 0, 1));
    }
    dag.profiles().iter().try_for_each(|profile| check_profile(profile))?;
    dag.works().iter().try_for_each(|work| check_work(work))?;
    for task in dag.tasks() {
        if let Some(condition) = dag.condition(task) {
            at_most("condition", condition.0.len(), limits::EXPRESSION_BYTES_MAX)?;
        }
        for (_, timeout) in dag.timed_dependencies(task) {
            spans("dependency.timeout", Some(timeout))?;
        }
    }
    Ok(())
}

fn check_profile(profile: &Profile) -> Result<(), ConvertError> {
    let retry = &profile.retry;
    if retry.max_attempts < 1 || retry.max_attempts > limits::ATTEMPTS_MAX {
        let (found, limit) = (retry.max_attempts, limits::ATTEMPTS_MAX);
        return Err(ConvertError::out_of_range("retry.max_attempts", found, limit));
    }
    spans("retry.backoff", [retry.backoff.initial, retry.backoff.max])?;
    let timeouts = &profile.timeouts;
    let clocks = [timeouts.queue, timeouts.start, timeouts.run, timeouts.grace];
    spans("timeouts", clocks.into_iter().flatten())?;
    spans("circuit.cool_down", profile.circuit.as_ref().map(|circuit| circuit.cool_down))?;
    at_most("concurrency", profile.concurrency.len(), limits::CONCURRENCY_KEYS_MAX)?;
    if profile.concurrency.iter().any(|key| key.limit == 0) {
        return Err(ConvertError::out_of_range("concurrency.limit", 0, 1));
    }
    let rules = profile.selector.required.len() + profile.selector.preferred.len();
    at_most("selector", rules, limits::LABEL_RULES_MAX)
}

fn check_work(work: &Work) -> Result<(), ConvertError> {
    match &work.action {
        Action::Run { script, .. } => {
            at_most("work.run.script", script.len(), limits::ACTION_BYTES_MAX)?;
        }
        Action::Exec { argv } => {
            if argv.is_empty() {
                return Err(ConvertError::Missing { field: "work.exec.argv" });
            }
            let bytes = argv.iter().map(|text| text.as_str().len()).sum();
            at_most("work.exec.argv", bytes, limits::ACTION_BYTES_MAX)?;
        }
        Action::Sleep { duration } => spans("work.sleep.duration", Some(*duration))?,
        Action::Noop => {}
    }
    at_most("work.env", work.env.len(), limits::ENV_MAX)?;
    let value_bytes = |text: &Text| text.as_str().len();
    let longest = work.env.iter().map(|(_, value)| value_bytes(value)).max().unwrap_or(0);
    at_most("work.env.value", longest, limits::ENV_VALUE_BYTES_MAX)
}

fn at_most(field: &'static str, found: usize, limit: usize) -> Result<(), ConvertError> {
    if found <= limit { Ok(()) } else { Err(ConvertError::out_of_range(field, found, limit)) }
}

fn spans(
    field: &'static str,
    spans: impl IntoIterator<Item = Duration>,
) -> Result<(), ConvertError> {
    match spans.into_iter().find(|span| *span > limits::SPAN_MAX) {
        None => Ok(()),
        Some(found) => {
            let limit = limits::SPAN_MAX.as_secs();
            Err(ConvertError::out_of_range(field, found.as_secs(), limit))
        }
    }
}
