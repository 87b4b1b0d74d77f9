//! The `http` action.

use std::time::Duration;

use kahn_model::{Action, Body, HttpRequest, Polling, SecretUse, StatusRange, Text};

use super::super::exprs::Exprs;
use super::super::groups::{Group, Instance};
use super::secret::{self, Place};
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::expr::template;
use crate::lenient::Scalar;
use crate::raw::{RawHttp, RawValue};
use crate::span::{Span, Spanned};

const TIMEOUT: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_secs(5);
/// Minimum delay between two requests.
const EVERY_MIN: Duration = Duration::from_millis(100);
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(super) fn request(
    group: &Group<'_>,
    instance: &Instance,
    raw: &Spanned<RawHttp>,
    secrets: &mut Vec<SecretUse>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Action> {
    let span = raw.span.or(group.span);
    let Some(url) = &raw.url else {
        let message = format!("`http` of task `{}` has no `url`", group.name);
        let help = "write for example `http: { url: \"https://example.com/\" }`";
        sink.push(Diagnostic::error(Code::MissingField, message).at(span).help(help));
        return None;
    };
    check_url(url, sink);
    let method = method(raw.method.as_ref(), sink);
    let headers = headers(group, instance, raw, secrets, exprs, sink);
    let body = body(group, instance, raw, exprs, sink);
    let expect = expect(raw, sink);
    let polling = polling(group, instance, raw, exprs, sink);
    Some(Action::Http(Box::new(HttpRequest {
        method: method?,
        url: exprs.text(group, instance, url, sink)?,
        headers: headers?,
        body: body?,
        expect: expect?,
        timeout: raw.timeout.map_or(TIMEOUT, |length| length.0),
        polling: polling?,
    })))
}

fn wrong(message: impl Into<String>, span: Span, help: &str, sink: &mut Sink) {
    sink.push(Diagnostic::error(Code::InvalidValue, message.into()).at(span).help(help));
}

/// Checks the parts of the URL that do not depend on expressions.
fn check_url(url: &Spanned<Scalar>, sink: &mut Sink) {
    let is_known = ["https://", "http://", template::OPEN].iter().any(|s| url.starts_with(s));
    if !is_known {
        let message = format!("`{}` is not an HTTP address", &***url);
        wrong(message, url.span, "start it with `https://`", sink);
    }
}

fn method(raw: Option<&Spanned<Scalar>>, sink: &mut Sink) -> Option<Box<str>> {
    let Some(text) = raw else { return Some("GET".into()) };
    let upper = text.to_ascii_uppercase();
    if METHODS.contains(&upper.as_str()) {
        return Some(upper.into());
    }
    let help = format!("it is one of {}", METHODS.join(", "));
    wrong(format!("`{}` is not a method", &***text), text.span, &help, sink);
    None
}

fn headers(
    group: &Group<'_>,
    instance: &Instance,
    raw: &RawHttp,
    secrets: &mut Vec<SecretUse>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Vec<(Box<str>, Text)>> {
    let is_token = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let mut out = Some(Vec::new());
    for (name, value) in raw.headers.iter().flat_map(|headers| &headers.0) {
        if !is_token(name) {
            let message = format!("`{}` cannot be the name of a header", name.value);
            wrong(message, name.span, "use letters, digits and `-`", sink);
            out = None;
        }
        let text = match &value.value {
            RawValue::Text(text) => exprs.text_at(group, instance, text, value.span, sink),
            RawValue::Secret(raw) => {
                match secret::secret(Place::Header, name, raw, value.span, sink) {
                    Some(secret) => secrets.push(secret),
                    None => out = None,
                }
                continue;
            }
        };
        match (&mut out, text) {
            (Some(all), Some(text)) => all.push((name.value.clone(), text)),
            _ => out = None,
        }
    }
    out
}

fn body(
    group: &Group<'_>,
    instance: &Instance,
    raw: &RawHttp,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Body> {
    match (&raw.json, &raw.body) {
        (None, None) => Some(Body::Empty),
        (Some(json), None) => exprs.json(group, instance, json, sink).map(Body::Json),
        (None, Some(text)) => exprs.text(group, instance, text, sink).map(Body::Text),
        (Some(json), Some(_)) => {
            let message = format!("`http` of task `{}` has both `json` and `body`", group.name);
            sink.push(Diagnostic::error(Code::Conflict, message).at(json.span.or(group.span)));
            None
        }
    }
}

fn expect(raw: &RawHttp, sink: &mut Sink) -> Option<Vec<StatusRange>> {
    let Some(given) = &raw.expect else { return Some(vec![StatusRange::SUCCESS]) };
    let mut out = Some(Vec::new());
    for text in &given.0 {
        match (range(text), &mut out) {
            (Some(range), Some(all)) => all.push(range),
            (Some(_), None) => {}
            (None, _) => {
                let message = format!("`{}` is not a range of status codes", &***text);
                wrong(message, text.span, "write `200`, or `200-299`", sink);
                out = None;
            }
        }
    }
    out
}

fn range(text: &str) -> Option<StatusRange> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (100 <= from && from <= to && to <= 599).then_some(StatusRange { from, to })
}

/// Returns `None` if the polling settings are invalid.
#[expect(clippy::option_option, reason = "no polling differs from invalid polling")]
fn polling(
    group: &Group<'_>,
    instance: &Instance,
    raw: &RawHttp,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Option<Polling>> {
    let Some(text) = &raw.until else {
        if let Some(every) = &raw.every {
            let message = format!("`every` of task `{}` has no effect without `until`", group.name);
            sink.push(Diagnostic::warning(Code::Conflict, message).at(every.span));
        }
        return Some(None);
    };
    let every = raw.every.as_ref().map_or(EVERY, |every| every.value.0);
    if every < EVERY_MIN {
        let span = raw.every.as_ref().map_or(text.span, |every| every.span);
        wrong("`every` is shorter than 100 ms", span, "ask less often", sink);
        return None;
    }
    let until = exprs.until(group, instance, text, sink);
    if until.is_none() && sink.has_errors() {
        return None;
    }
    // The condition is `None` if it is always true: one request is enough.
    Some(until.map(|until| Polling { until, every }))
}
