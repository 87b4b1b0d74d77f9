//! Checks the limits of [`kahn_model::limits`] on external input.
//!
//! Separate from `from_wire`, so that data accepted under other limits can still be read.

use std::time::Duration;

use kahn_model::{Action, Dag, FailurePolicy, Profile, Text, Work, limits};

use super::ConvertError;

/// Checks a submitted DAG.
///
/// # Errors
///
/// Returns an error for the first limit that is exceeded.
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
            // Includes the values bound to it. The expression alone is measured by the guard.
            at_most("condition", condition.0.len(), limits::BOUND_EXPRESSION_BYTES_MAX)?;
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
    at_most("retry.on", profile.retry_exceptions.len(), limits::EXCEPTIONS_MAX)?;
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
        Action::Exec { argv } if argv.is_empty() => {
            return Err(ConvertError::Missing { field: "work.exec.argv" });
        }
        Action::Http(request) => {
            let every = request.polling.as_ref().map(|polling| polling.every);
            spans("work.http", std::iter::once(request.timeout).chain(every))?;
        }
        Action::Sleep { duration } => spans("work.sleep.duration", Some(*duration))?,
        Action::Run { .. }
        | Action::Exec { .. }
        | Action::Function(_)
        | Action::Python(_)
        | Action::Container(_)
        | Action::Pod(_)
        | Action::Noop => {}
    }
    let dynamic = |text: &Text| text.as_str().len() - final_bytes(text);
    let bound: usize = work.action.texts().iter().map(|(_, text)| dynamic(text)).sum();
    let n_bytes = work.action.n_bytes().saturating_sub(bound);
    at_most("work.action", n_bytes, limits::ACTION_BYTES_MAX)?;
    at_most("work.env", work.env.len(), limits::ENV_MAX)?;
    let longest = work.env.iter().map(|(_, value)| final_bytes(value)).max().unwrap_or(0);
    at_most("work.env.value", longest, limits::ENV_VALUE_BYTES_MAX)?;
    at_most("work.secrets", work.secrets.len(), limits::SECRETS_MAX)?;
    let longest = work.secrets.iter().map(|secret| secret.prefix.len()).max().unwrap_or(0);
    at_most("work.secret.prefix", longest, limits::SECRET_PREFIX_BYTES_MAX)
}

/// Returns the length in bytes of a text without expressions. A text with expressions is measured
/// after rendering, because before that it is longer by the values bound to them.
fn final_bytes(text: &Text) -> usize {
    if text.is_dynamic() { 0 } else { text.as_str().len() }
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
