//! Converts a request of a DAG into one that can be sent.

use bytes::Bytes;
use kahn_model::{Body, Cause, CauseKind, Failure, HttpRequest, StatusRange};
use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use reqwest::{Method, Url};

use super::mask::is_secret;
use kahn_executor::secrets::GivenSecrets;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers that frame messages or control the connection. Tasks share connections, so they must not
/// forge the end of a request.
const OF_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A request that can be sent repeatedly.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    expect: Vec<StatusRange>,
}

impl Prepared {
    /// Prepares a request. `traceparent` and `Idempotency-Key` are set from `env` unless the task
    /// sets them. The latter is the same for all attempts of a task, and is sent with all methods
    /// except GET and HEAD.
    pub(super) fn new(
        asked: &HttpRequest,
        env: &[(String, String)],
        secrets: &GivenSecrets,
    ) -> Result<Self, Failure> {
        let method = method(&asked.method)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &asked.headers {
            let (name, value) = header(name, value.as_str())?;
            headers.append(name, value);
        }
        for (name, value) in secrets.headers() {
            let (name, mut value) = header(name, value)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let (body, content_type) = match &asked.body {
            Body::Empty => ("", None),
            Body::Json(text) => (text.as_str(), Some("application/json")),
            Body::Text(text) => (text.as_str(), Some("text/plain; charset=utf-8")),
        };
        let of_env = |wanted: &str| {
            env.iter().rev().find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
        };
        let is_only_read = [Method::GET, Method::HEAD].contains(&method);
        let key = if is_only_read { None } else { of_env("KAHN_TASK_KEY") };
        for (name, value) in [
            (CONTENT_TYPE, content_type),
            (TRACEPARENT, of_env("TRACEPARENT")),
            (IDEMPOTENCY_KEY, key),
        ] {
            if let Some(value) = value.filter(|_| !headers.contains_key(&name)) {
                let (name, value) = header(name.as_str(), value)?;
                headers.insert(name, value);
            }
        }
        Ok(Self {
            method,
            url: url(asked.url.as_str())?,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            expect: asked.expect.clone(),
        })
    }

    /// Returns whether a status means success.
    pub(super) fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|range| range.contains(status))
    }

    /// Formats the status codes that mean success for messages.
    pub(super) fn expected(&self) -> String {
        let ranges = self.expect.iter().map(|range| match range {
            StatusRange { from, to } if from == to => from.to_string(),
            StatusRange { from, to } => format!("{from}-{to}"),
        });
        ranges.collect::<Vec<_>>().join(", ")
    }
}

fn wrong(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Infeasible), message)
}

fn method(text: &str) -> Result<Method, Failure> {
    match text.parse() {
        Ok(Method::CONNECT) | Err(_) => Err(wrong(&format!("`{text}` is not a supported method"))),
        Ok(method) => Ok(method),
    }
}

/// Parses a URL. Messages do not quote an invalid URL, because it may contain credentials.
fn url(text: &str) -> Result<Url, Failure> {
    let url: Url = text.parse().map_err(|error| wrong(&format!("the URL is invalid: {error}")))?;
    if !is_http(&url) {
        return Err(wrong(&format!("the URL has the scheme `{}:`, not `https:`", url.scheme())));
    }
    Ok(url)
}

/// Returns whether a URL has the scheme `http:` or `https:`. Such a URL always has a host.
pub(super) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let Ok(parsed) = name.parse::<HeaderName>() else {
        return Err(wrong(&format!("`{name}` cannot be the name of a header")));
    };
    if OF_CONNECTION.contains(&parsed) {
        return Err(wrong(&format!("header `{parsed}` belongs to the connection, not to a task")));
    }
    let Ok(mut value) = HeaderValue::from_str(value) else {
        return Err(wrong(&format!("the value of header `{parsed}` cannot be sent")));
    };
    value.set_sensitive(is_secret(&parsed));
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use kahn_model::Text;

    use super::*;

    fn asked(method: &str, headers: &[(&str, &str)]) -> HttpRequest {
        HttpRequest {
            method: method.into(),
            url: Text::new("https://a.example/"),
            headers: headers.iter().map(|(n, v)| ((*n).into(), Text::new(*v))).collect(),
            body: Body::Json(Text::new("{}")),
            expect: vec![StatusRange::SUCCESS, StatusRange { from: 404, to: 404 }],
            timeout: std::time::Duration::from_secs(1),
            polling: None,
        }
    }

    fn env() -> Vec<(String, String)> {
        [("KAHN_TASK_KEY", "key"), ("TRACEPARENT", "trace")]
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    }

    #[test]
    fn key_and_trace_are_sent_unless_the_task_sets_them() {
        let sent = |method, headers: &[(&str, &str)]| {
            let headers = Prepared::new(&asked(method, headers), &env(), &GivenSecrets::none())
                .unwrap()
                .headers;
            ["idempotency-key", "traceparent", "content-type"]
                .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        let json = some("application/json");
        assert_eq!(sent("POST", &[]), [some("key"), some("trace"), json.clone()]);
        assert_eq!(sent("GET", &[]), [None, some("trace"), json]);
        let own = [("Idempotency-Key", "a"), ("Traceparent", "b"), ("Content-Type", "c")];
        assert_eq!(sent("PUT", &own), [some("a"), some("b"), some("c")]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        let refused = |asked: &HttpRequest| {
            let failure = Prepared::new(asked, &[], &GivenSecrets::none()).unwrap_err();
            assert_eq!(failure.cause.kind, CauseKind::Infeasible);
            failure.message
        };
        assert!(refused(&asked("CONNECT", &[])).contains("`CONNECT`"));
        assert!(refused(&asked("GET", &[("a b", "x")])).contains("`a b`"));
        assert!(refused(&asked("GET", &[("x", "a\r\nb: c")])).contains("`x`"));
        assert!(refused(&asked("GET", &[("Content-Length", "1")])).contains("content-length"));
        for (url, word) in [("file:///etc/passwd", "`file:`"), ("user:secret@host", "`user:`")] {
            let message = refused(&HttpRequest { url: Text::new(url), ..asked("GET", &[]) });
            assert!(message.contains(word) && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn the_expected_codes_are_told() {
        let prepared = Prepared::new(&asked("GET", &[]), &[], &GivenSecrets::none()).unwrap();
        assert!(prepared.expects(204) && prepared.expects(404) && !prepared.expects(302));
        assert_eq!(prepared.expected(), "200-299, 404");
    }
}
