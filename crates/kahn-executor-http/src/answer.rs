//! Responses, and their conversion to outputs, to the scope of conditions, and to failures.

use std::collections::BTreeMap;

use kahn_model::limits::OUTPUT_BYTES_MAX;
use kahn_model::{Cause, Failure, Outputs, Value};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode, Url, Version};
use serde_json::json;

use super::mask::MaskedUrl;
use super::transcript::Transcript;

/// The maximum part of a body that is kept in memory, for outputs, conditions and messages.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// The maximum part of a body in a failure, in characters.
const SNIPPET_CHARS_MAX: usize = 512;

/// A response with its body.
#[derive(Debug)]
pub(super) struct Answer {
    /// The URL that responded, after all redirects.
    pub(super) url: Url,
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, or its first [`BODY_BYTES_MAX`] bytes.
    pub(super) body: Vec<u8>,
    /// Whether the body was longer than what was kept.
    pub(super) is_cut: bool,
}

impl Answer {
    /// Creates a response without its body, which is read by [`Answer::read`].
    pub(super) fn head(url: Url, response: &Response) -> Self {
        Self {
            url,
            version: response.version(),
            status: response.status(),
            headers: response.headers().clone(),
            body: Vec::new(),
            is_cut: false,
        }
    }

    /// Reads the body until its end, or until neither memory nor log keep more of it. The body is
    /// copied to `shown`.
    pub(super) async fn read(
        &mut self,
        mut response: Response,
        mut shown: Option<&mut Transcript>,
    ) -> Result<(), reqwest::Error> {
        while let Some(bytes) = response.chunk().await? {
            let room = BODY_BYTES_MAX - self.body.len();
            self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            self.is_cut |= bytes.len() > room;
            if let Some(transcript) = &mut shown {
                transcript.body(&bytes).await;
            }
            if self.is_cut && shown.as_ref().is_none_or(|transcript| transcript.is_full()) {
                break;
            }
        }
        Ok(())
    }

    /// Writes status line and headers to the log.
    pub(super) fn show_head(&self, transcript: &mut Transcript) {
        transcript.line(format_args!("< {:?} {}", self.version, self.status));
        transcript.headers('<', &self.headers);
    }

    /// Returns the value of `response` in conditions. `json` is null if the body is not JSON. A
    /// body longer than [`BODY_BYTES_MAX`] is truncated in `body`.
    pub(super) fn for_condition(&self) -> serde_json::Value {
        json!({
            "status": self.status.as_u16(),
            "headers": self.headers(),
            "body": self.text(),
            "json": self.json(),
        })
    }

    /// Returns the outputs `status`, `headers`, and `json` or `body`, and logs which were omitted.
    ///
    /// An output that does not fit into [`OUTPUT_BYTES_MAX`] is omitted entirely: a truncated body
    /// would be mistaken for a complete one, whereas an expression that uses a missing output fails
    /// clearly.
    pub(super) fn outputs(&self, remarks: &mut Transcript) -> Outputs {
        let mut outputs = Outputs::default();
        let mut put = |name: &str, json: Option<String>| {
            let json = json.filter(|json| json.len() <= OUTPUT_BYTES_MAX);
            if let Some(json) = json {
                outputs.0.insert(name.into(), Value::from_json(json));
                if outputs.is_within_limit() {
                    return;
                }
                outputs.0.remove(name);
            }
            remarks.remark(format_args!(
                "output `{name}` is left out: outputs may have {OUTPUT_BYTES_MAX} bytes"
            ));
        };
        put("status", Some(self.status.as_u16().to_string()));
        put("headers", Some(json!(self.headers()).to_string()));
        let whole = (!self.is_cut).then_some(());
        if self.json().is_some() {
            put("json", whole.map(|()| self.text().trim().to_owned()));
        } else {
            put("body", whole.map(|()| json!(self.text()).to_string()));
        }
        outputs
    }

    /// Returns the failure for an unexpected status.
    pub(super) fn unexpected(&self, expected: &str) -> Failure {
        let reason = self.status.canonical_reason().unwrap_or("no known status");
        let (url, snippet) = (MaskedUrl(&self.url), self.snippet());
        let message = format!("{url} answered `{reason}`, expected is {expected}{snippet}");
        Failure::new(Cause::http_status(self.status.as_u16()), &message)
    }

    /// Returns the start of the body as one line.
    fn snippet(&self) -> String {
        let text = self.text();
        let one_line = text.split(|c: char| c.is_whitespace() || c.is_control());
        let one_line = one_line.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        match one_line.char_indices().nth(SNIPPET_CHARS_MAX) {
            _ if one_line.is_empty() => String::new(),
            Some((end, _)) => format!(": {}…", &one_line[..end]),
            None => format!(": {one_line}"),
        }
    }

    /// Returns the headers, with lower-case names, and with repeated values joined by commas.
    fn headers(&self) -> BTreeMap<&str, String> {
        let mut out = BTreeMap::<&str, String>::new();
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            out.entry(name.as_str())
                .and_modify(|values| *values = format!("{values}, {value}"))
                .or_insert_with(|| value.into_owned());
        }
        out
    }

    /// Returns the body as text, with invalid UTF-8 replaced.
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Returns the body as JSON, if it is valid JSON and either declared as JSON or an object or
    /// array. A plain text such as `12` stays text.
    fn json(&self) -> Option<serde_json::Value> {
        let given = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_called_json = media_type.ends_with("/json") || media_type.ends_with("+json");
        let first = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        let may_be = is_called_json || matches!(first, Some(b'{' | b'['));
        if may_be { serde_json::from_slice(&self.body).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content_type: &'static str, body: &[u8]) -> Answer {
        let content_type = reqwest::header::HeaderValue::from_static(content_type);
        Answer {
            url: "https://a.example/x?secret".parse().unwrap(),
            version: Version::HTTP_11,
            status: StatusCode::IM_A_TEAPOT,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            body: body.to_vec(),
            is_cut: false,
        }
    }

    #[test]
    fn json_is_what_says_so_or_is_an_object_or_array() {
        for (content_type, body, is_json) in [
            ("application/json", " 12 ", true),
            ("application/problem+json; charset=utf-8", "{}", true),
            ("text/plain", "{\"a\": 1}", true),
            ("text/plain", "12", false),
            ("application/json", "{", false),
            ("application/json", "", false),
            ("text/html", "<p>", false),
        ] {
            assert_eq!(answer(content_type, body.as_bytes()).json().is_some(), is_json, "{body}");
        }
        assert_eq!(answer("application/json", b"\"\xff\"").json(), None);
    }

    #[test]
    fn a_failure_shows_the_start_of_the_body_in_one_line() {
        let failure = answer("text/plain", b"out of\r\n\ttea\x1b[31m").unexpected("200-299");
        assert_eq!(failure.cause, Cause::http_status(418));
        assert_eq!(
            &*failure.message,
            "https://a.example/x?*** answered `I'm a teapot`, expected is 200-299: \
             out of tea [31m"
        );
        let long = answer("text/plain", "é".repeat(10_000).as_bytes()).unexpected("200");
        assert_eq!(long.message.chars().filter(|&c| c == 'é').count(), SNIPPET_CHARS_MAX);
    }
}
