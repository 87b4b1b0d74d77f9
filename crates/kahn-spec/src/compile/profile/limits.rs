//! Retries, timeouts, circuit breakers and named concurrency limits.

use std::collections::BTreeSet;
use std::time::Duration;

use kahn_model::{
    Backoff, BackoffKind, CauseKind, CauseSet, Circuit, ConcurrencyKey, ExceptionPattern,
    InvalidExceptionPattern, Multiplier, Name, Resource, RetryPolicy, Timeouts, limits,
};

use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::raw::{
    RawBackoff, RawBackoffKind, RawCauses, RawCircuit, RawConcurrency, RawLength, RawRetry,
    RawTimeouts, Word,
};
use crate::span::{Span, Spanned};
use crate::suggest;

/// Default number of consecutive failures that open a circuit breaker.
const CIRCUIT_FAILURES: u32 = 5;
/// Default time for which a circuit breaker stays open.
const CIRCUIT_COOL_DOWN: Duration = Duration::from_secs(60);

fn refuse(code: Code, message: impl Into<String>, span: Span, sink: &mut Sink) {
    sink.push(Diagnostic::error(code, message).at(span));
}

/// Merges the layers; the later one takes precedence.
pub(super) fn retry(
    layers: [Option<&RawRetry>; 2],
    sink: &mut Sink,
) -> (RetryPolicy, Vec<ExceptionPattern>) {
    let mut out = RetryPolicy::default();
    let mut exceptions = Vec::new();
    for raw in layers.into_iter().flatten() {
        if let Some(n) = &raw.max_attempts {
            if (1..=limits::ATTEMPTS_MAX).contains(&n.value) {
                out.max_attempts = n.value;
            } else {
                let message = format!(
                    "`max_attempts` is {}; allowed are 1 to {}",
                    n.value,
                    limits::ATTEMPTS_MAX
                );
                refuse(Code::InvalidValue, message, n.span, sink);
            }
        }
        if let Some(raw) = &raw.backoff {
            backoff(&mut out.backoff, raw);
        }
        if let Some(on) = &raw.on {
            (out.on, exceptions) = causes(on, sink);
        }
        if let Some(factor) = &raw.memory_multiplier {
            out.memory = multiplier(factor, sink);
        }
        if let Some(factor) = &raw.timeout_multiplier {
            out.timeout = multiplier(factor, sink);
        }
        out.crash_limit = raw.crash_limit.unwrap_or(out.crash_limit);
        if let Some(amount) = &raw.memory_max {
            match Resource::Memory.parse_amount(amount) {
                Ok(bytes) => out.memory_max = Some(bytes),
                Err(error) => {
                    refuse(Code::InvalidValue, error.to_string(), amount.span, sink);
                }
            }
        }
    }
    (out, exceptions)
}

fn backoff(out: &mut Backoff, raw: &RawBackoff) {
    match raw.kind {
        None => {}
        Some(RawBackoffKind::Fixed) => out.kind = BackoffKind::Fixed,
        Some(RawBackoffKind::Linear) => out.kind = BackoffKind::Linear,
        Some(RawBackoffKind::Exponential) => out.kind = BackoffKind::Exponential,
    }
    out.initial = raw.initial.map_or(out.initial, |length| length.0);
    out.max = raw.max.map_or(out.max.max(out.initial), |length| length.0);
    out.jitter = raw.jitter.unwrap_or(out.jitter);
}

/// The prefix of the name of an exception.
const EXCEPTION: &str = "exception:";

fn causes(raw: &RawCauses, sink: &mut Sink) -> (CauseSet, Vec<ExceptionPattern>) {
    let mut out = CauseSet::EMPTY;
    let mut exceptions = Vec::new();
    for word in &raw.0 {
        if let Some(pattern) = word.strip_prefix(EXCEPTION) {
            match pattern.trim().parse() {
                Ok(pattern) => exceptions.push(pattern),
                Err(error) => {
                    let message = InvalidExceptionPattern::to_string(&error);
                    refuse(Code::InvalidValue, message, word.span, sink);
                }
            }
            continue;
        }
        match word.parse::<CauseKind>() {
            Ok(cause) => out = out.with(cause),
            Err(error) => {
                let known = CauseKind::ALL.iter().map(|cause| cause.as_str());
                let near = suggest::nearest(word, known.clone());
                let help = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "causes are {}, and `exception:NAME` for one type of exception",
                        known.collect::<Vec<_>>().join(", ")
                    ),
                };
                let diagnostic = Diagnostic::error(Code::InvalidValue, error.to_string());
                sink.push(diagnostic.at(word.span).help(help));
            }
        }
    }
    if let Some(word) = raw.0.first() {
        let what = "too many exceptions in `retry.on`";
        super::super::exceeds(exceptions.len(), limits::EXCEPTIONS_MAX, what, word.span, sink);
    }
    (out, exceptions)
}

fn multiplier(factor: &Spanned<f64>, sink: &mut Sink) -> Multiplier {
    if (1.0..=100.0).contains(&factor.value) {
        let thousandths = format!("{:.0}", factor.value * 1000.0);
        return Multiplier(thousandths.parse().unwrap_or(1000));
    }
    let message = format!("a multiplier is between 1 and 100, not {}", factor.value);
    refuse(Code::InvalidValue, message, factor.span, sink);
    Multiplier::ONE
}

type TimeoutLayer<'a> = (Option<&'a Spanned<RawLength>>, Option<&'a RawTimeouts>);

/// Merges the layers; the later one takes precedence. `timeout` is short for `timeouts.run`.
pub(super) fn timeouts(layers: [TimeoutLayer<'_>; 2], sink: &mut Sink) -> Timeouts {
    let mut out = Timeouts::default();
    for (short, full) in layers {
        if let Some(short) = short {
            out.run = Some(short.value.0);
        }
        let Some(full) = full else { continue };
        if let (Some(short), Some(run)) = (short, &full.run) {
            let message = "`timeout` and `timeouts.run` say the same thing twice";
            let diagnostic = Diagnostic::error(Code::Conflict, message).at(run.span);
            sink.push(diagnostic.label(short.span, "and here").help("leave out one of them"));
        }
        out.queue = full.queue.map(|length| length.0).or(out.queue);
        out.start = full.start.map(|length| length.0).or(out.start);
        out.run = full.run.as_ref().map(|length| length.value.0).or(out.run);
        out.grace = full.grace.map(|length| length.0).or(out.grace);
    }
    out
}

fn key(word: Option<&Word>, owner: &str, span: Span, sink: &mut Sink) -> Option<Name> {
    let Some(word) = word else {
        refuse(Code::MissingField, format!("`{owner}` has no `key`"), span, sink);
        return None;
    };
    Name::new(word)
        .map_err(|error| {
            refuse(Code::InvalidName, error.to_string(), word.span.or(span), sink);
        })
        .ok()
}

fn at_least_one(n: Option<&Spanned<u32>>, default: u32, name: &str, sink: &mut Sink) -> u32 {
    match n {
        Some(n) if n.value == 0 => {
            refuse(Code::InvalidValue, format!("`{name}` is at least 1"), n.span, sink);
            default
        }
        Some(n) => n.value,
        None => default,
    }
}

/// Converts a circuit breaker.
pub(super) fn circuit(raw: &Spanned<RawCircuit>, sink: &mut Sink) -> Option<Circuit> {
    let key = key(raw.key.as_ref(), "circuit", raw.span, sink)?;
    let failures = at_least_one(raw.failures.as_ref(), CIRCUIT_FAILURES, "failures", sink);
    let cool_down = raw.cool_down.map_or(CIRCUIT_COOL_DOWN, |length| length.0);
    Some(Circuit { key, failures, cool_down })
}

/// Converts named concurrency limits.
pub(super) fn concurrency(raw: Option<&RawConcurrency>, sink: &mut Sink) -> Vec<ConcurrencyKey> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    for item in raw.map_or(&[][..], |raw| raw.0.as_slice()) {
        let Some(key) = key(item.key.as_ref(), "concurrency", item.span, sink) else { continue };
        if !seen.insert(key.clone()) {
            refuse(Code::DuplicateKey, format!("key `{key}` is named twice"), item.span, sink);
            continue;
        }
        let limit = at_least_one(item.limit.as_ref(), 1, "limit", sink);
        out.push(ConcurrencyKey { key, limit });
    }
    let span = raw.and_then(|raw| raw.0.last()).map_or(Span::NONE, |item| item.span);
    let max = limits::CONCURRENCY_KEYS_MAX;
    super::super::exceeds(out.len(), max, "too many concurrency keys", span, sink);
    out
}
