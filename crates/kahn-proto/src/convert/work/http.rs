//! HTTP requests.

use std::time::Duration;

use kahn_model::{Body, Condition, HttpRequest, Polling, StatusRange, Text};
use wire::http_action::Body as WireBody;

use super::{owned, span};
use crate::convert::ConvertError;
use crate::storage as wire;

pub(super) fn to_wire(request: &HttpRequest) -> wire::HttpAction {
    let header = |(name, value): &(Box<str>, Text)| wire::Header {
        name: name.to_string(),
        value: owned(value),
    };
    let range =
        |range: &StatusRange| wire::StatusRange { from: range.from.into(), to: range.to.into() };
    let polling = |polling: &Polling| wire::Polling {
        until: polling.until.0.to_string(),
        every_nanos: span::to_wire(polling.every),
    };
    wire::HttpAction {
        method: request.method.to_string(),
        url: owned(&request.url),
        headers: request.headers.iter().map(header).collect(),
        body: match &request.body {
            Body::Empty => None,
            Body::Json(json) => Some(WireBody::Json(owned(json))),
            Body::Text(text) => Some(WireBody::Text(owned(text))),
        },
        expect: request.expect.iter().map(range).collect(),
        timeout_nanos: span::to_wire(request.timeout),
        polling: request.polling.as_ref().map(polling),
    }
}

pub(super) fn from_wire(found: wire::HttpAction) -> Result<HttpRequest, ConvertError> {
    let header = |header: wire::Header| (header.name.into_boxed_str(), Text::new(header.value));
    let polling = |polling: wire::Polling| Polling {
        until: Condition(polling.until.into_boxed_str()),
        every: Duration::from_nanos(polling.every_nanos),
    };
    Ok(HttpRequest {
        method: found.method.into_boxed_str(),
        url: Text::new(found.url),
        headers: found.headers.into_iter().map(header).collect(),
        body: match found.body {
            None => Body::Empty,
            Some(WireBody::Json(json)) => Body::Json(Text::new(json)),
            Some(WireBody::Text(text)) => Body::Text(Text::new(text)),
        },
        expect: found.expect.iter().map(range).collect::<Result<_, _>>()?,
        timeout: Duration::from_nanos(found.timeout_nanos),
        polling: found.polling.map(polling),
    })
}

fn range(range: &wire::StatusRange) -> Result<StatusRange, ConvertError> {
    let code = |found: u32| {
        u16::try_from(found)
            .map_err(|_| ConvertError::out_of_range("work.http.expect", found, u16::MAX))
    };
    Ok(StatusRange { from: code(range.from)?, to: code(range.to)? })
}
