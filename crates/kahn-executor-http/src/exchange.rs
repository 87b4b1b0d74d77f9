//! Sends one request, follows redirects, and reads the response.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure};
use reqwest::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, USER_AGENT,
};
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::time::timeout;

use super::answer::Answer;
use super::guard::{Forbidden, Guard};
use super::mask::MaskedUrl;
use super::prepare::{Prepared, is_http};
use super::resolve::Unresolved;
use super::transcript::Transcript;

/// The maximum number of redirects per request.
pub(super) const REDIRECTS_MAX: u32 = 3;

/// The headers that are sent to another origin after a redirect. Others might be credentials.
const FOR_ALL_ORIGINS: [HeaderName; 6] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("idempotency-key"),
];

/// State shared by all attempts of a worker.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) guard: Arc<Guard>,
}

/// What an exchange logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Requests, responses and the body.
    All,
    /// Nothing; the caller logs the result.
    Nothing,
}

/// The progress of an exchange.
enum Phase {
    /// Connecting or waiting for a response.
    Waiting(Url),
    /// Reading a response.
    Reading(Box<Answer>),
}

impl Phase {
    fn reading(&mut self, answer: Answer) -> &mut Answer {
        *self = Self::Reading(Box::new(answer));
        match self {
            Self::Reading(answer) => answer,
            Self::Waiting(_) => unreachable!("it was just set"),
        }
    }
}

impl Wire {
    /// Sends a request, follows redirects, and reads the response, all within `limit`.
    ///
    /// A redirect whose status is expected is returned like any other response.
    ///
    /// # Errors
    ///
    /// Returns [`CauseKind::Unreachable`] if there is no response, and [`CauseKind::Policy`] if a
    /// forbidden address would be requested.
    pub(super) async fn exchange(
        &self,
        asked: &Prepared,
        limit: Duration,
        detail: Detail,
        transcript: &mut Transcript,
    ) -> Result<Answer, Failure> {
        let mut phase = Phase::Waiting(asked.url.clone());
        let following = self.follow(asked, detail, transcript, &mut phase);
        let is_in_time = match timeout(limit, following).await {
            Ok(Ok(())) => true,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => false,
        };
        match phase {
            Phase::Reading(answer) if is_in_time => Ok(*answer),
            Phase::Reading(answer) => {
                let (url, n) = (MaskedUrl(&answer.url), answer.body.len());
                let n = if answer.is_cut { format!("more than {n}") } else { n.to_string() };
                let what = format!("{url} did not end its answer within {limit:?}: {n} bytes came");
                Err(no_answer(&what))
            }
            Phase::Waiting(url) => {
                let url = MaskedUrl(&url);
                Err(no_answer(&format!("{url} did not answer within {limit:?}")))
            }
        }
    }

    /// Performs the exchange and stores the response in `phase`.
    async fn follow(
        &self,
        asked: &Prepared,
        detail: Detail,
        transcript: &mut Transcript,
        phase: &mut Phase,
    ) -> Result<(), Failure> {
        let mut request = asked.clone();
        let mut n_redirects = 0;
        loop {
            let response = self.send(&request, detail, transcript).await?;
            let answer = Answer::head(request.url.clone(), &response);
            if detail == Detail::All {
                answer.show_head(transcript);
            }
            let next = if asked.expects(answer.status.as_u16()) { None } else { next_url(&answer) };
            if let Some(next) = next.filter(|_| n_redirects < REDIRECTS_MAX) {
                request = redirected(request, answer.status, next)?;
                *phase = Phase::Waiting(request.url.clone());
                n_redirects += 1;
                continue;
            }
            if n_redirects == REDIRECTS_MAX && answer.status.is_redirection() {
                transcript.remark(format_args!("at most {REDIRECTS_MAX} redirects are followed"));
            }
            let shown = (detail == Detail::All).then_some(transcript);
            let read = phase.reading(answer).read(response, shown).await;
            return read.map_err(|error| explain(&request.url, error));
        }
    }

    async fn send(
        &self,
        request: &Prepared,
        detail: Detail,
        transcript: &mut Transcript,
    ) -> Result<Response, Failure> {
        let Prepared { method, url, headers, body, .. } = request;
        if detail == Detail::All {
            transcript.line(format_args!("> {method} {}", MaskedUrl(url)));
            transcript.headers('>', headers);
            // Lets users see what the attempt is waiting for.
            transcript.flush().await;
        }
        self.guard.check_url(url).map_err(|refused| refusal(url, &refused))?;
        let mut sending = self.client.request(method.clone(), url.clone());
        if !body.is_empty() {
            sending = sending.body(body.clone());
        }
        let sent = sending.headers(headers.clone()).send().await;
        sent.map_err(|error| explain(url, error))
    }
}

/// Returns the target of a redirect.
fn next_url(answer: &Answer) -> Option<Url> {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers.get(LOCATION)?;
    answer.url.join(std::str::from_utf8(location.as_bytes()).ok()?).ok()
}

/// Returns the request after a redirect, without possible secrets if the origin differs.
fn redirected(from: Prepared, status: StatusCode, mut to: Url) -> Result<Prepared, Failure> {
    if !is_http(&to) {
        let (url, scheme) = (MaskedUrl(&from.url), to.scheme());
        let message = format!("{url} redirects to `{scheme}:`, which requests may not follow");
        return Err(Failure::new(Cause::of(CauseKind::Policy), &message));
    }
    let mut next = from;
    let becomes_get = match status.as_u16() {
        303 => next.method != Method::HEAD,
        301 | 302 => next.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        next.method = Method::GET;
        next.body.clear();
        next.headers.remove(CONTENT_TYPE);
    }
    if to.origin() == next.url.origin() {
        if to.username().is_empty() && to.password().is_none() {
            // Cannot fail for an HTTP URL.
            _ = to.set_username(next.url.username());
            _ = to.set_password(next.url.password());
        }
    } else {
        let mut kept = HeaderMap::new();
        for (name, value) in &next.headers {
            if FOR_ALL_ORIGINS.contains(name) && !value.is_sensitive() {
                kept.append(name, value.clone());
            }
        }
        next.headers = kept;
    }
    next.url = to;
    Ok(next)
}

fn no_answer(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Unreachable), message)
}

fn refusal(url: &Url, refused: &Forbidden) -> Failure {
    let message = format!("{} may not be requested: {refused}", MaskedUrl(url));
    Failure::new(Cause::of(CauseKind::Policy), &message)
}

/// Converts an error of the client into a failure.
fn explain(url: &Url, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let causes: Vec<&(dyn std::error::Error + 'static)> =
        std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source()).collect();
    if let Some(refused) = causes.iter().find_map(|cause| cause.downcast_ref::<Forbidden>()) {
        return refusal(url, refused);
    }
    let url = MaskedUrl(url);
    if let Some(unresolved) = causes.iter().find_map(|cause| cause.downcast_ref::<Unresolved>()) {
        return no_answer(&format!("{url} is not reachable: {unresolved}"));
    }
    // The outer two errors carry no information.
    let mut words: Vec<String> = causes.iter().skip(1).map(ToString::to_string).collect();
    words.dedup();
    let words = if words.is_empty() { error.to_string() } else { words.join(": ") };
    let what = match (error.is_connect(), error.is_body() || error.is_decode()) {
        (true, _) => "no connection",
        (_, true) => "the answer broke off",
        _ => "no answer",
    };
    no_answer(&format!("{url} is not reachable: {what}: {words}"))
}

#[cfg(test)]
mod tests {
    use kahn_model::{Body, HttpRequest, StatusRange, Text};

    use super::*;
    use kahn_executor::secrets::GivenSecrets;

    fn request(method: &str, url: &str) -> Prepared {
        let headers = [("Authorization", "a"), ("X-Own", "b"), ("Accept", "c")];
        let asked = HttpRequest {
            method: method.into(),
            url: Text::new(url),
            headers: headers.map(|(name, value)| (name.into(), Text::new(value))).into(),
            body: Body::Text(Text::new("text")),
            expect: vec![StatusRange::SUCCESS],
            timeout: Duration::from_secs(1),
            polling: None,
        };
        Prepared::new(&asked, &[], &GivenSecrets::none()).unwrap()
    }

    fn after(method: &str, status: StatusCode, to: &str) -> Prepared {
        let from = request(method, "https://user:word@a.example/x");
        redirected(from, status, to.parse().unwrap()).unwrap()
    }

    #[test]
    fn another_origin_is_told_no_secrets() {
        let same = after("GET", StatusCode::FOUND, "https://a.example/y");
        assert_eq!(same.url.as_str(), "https://user:word@a.example/y");
        assert_eq!(same.headers.len(), 4);
        for other in ["https://b.example/", "http://a.example/", "https://a.example:8443/"] {
            let request = after("GET", StatusCode::FOUND, other);
            assert_eq!(request.url.as_str(), other);
            let names: Vec<&str> = request.headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["accept", "content-type"], "{other}");
        }
    }

    #[test]
    fn no_header_with_a_secret_goes_to_another_origin() {
        let mut from = request("GET", "https://a.example/");
        let secrets = [("Accept", "secret-value"), ("X-Plain-Name", "secret-value")];
        let asked = HttpRequest {
            method: "GET".into(),
            url: Text::new("https://a.example/"),
            headers: Vec::new(),
            body: Body::Empty,
            expect: vec![StatusRange::SUCCESS],
            timeout: Duration::from_secs(1),
            polling: None,
        };
        let secret = Prepared::new(&asked, &[], &GivenSecrets::of_headers(&secrets)).unwrap();
        assert_eq!(
            (secret.headers.len(), &secret.headers["accept"]),
            (2, &"secret-value".parse().unwrap())
        );
        from.headers = secret.headers;
        let same =
            redirected(from.clone(), StatusCode::FOUND, "https://a.example/y".parse().unwrap());
        assert_eq!(same.unwrap().headers.len(), 2);
        let other = redirected(from, StatusCode::FOUND, "https://b.example/".parse().unwrap());
        assert!(other.unwrap().headers.is_empty());
    }

    #[test]
    fn a_body_goes_along_only_where_the_status_says_so() {
        for (method, status, expected) in [
            ("POST", StatusCode::MOVED_PERMANENTLY, (Method::GET, "")),
            ("POST", StatusCode::SEE_OTHER, (Method::GET, "")),
            ("PUT", StatusCode::FOUND, (Method::PUT, "text")),
            ("POST", StatusCode::TEMPORARY_REDIRECT, (Method::POST, "text")),
        ] {
            let request = after(method, status, "https://a.example/y");
            assert_eq!((request.method, &*request.body), (expected.0, expected.1.as_bytes()));
        }
    }

    #[test]
    fn a_redirect_leaves_http_for_nothing_else() {
        let from = request("GET", "https://a.example/");
        let refused = redirected(from, StatusCode::FOUND, "file:///etc/passwd".parse().unwrap());
        assert_eq!(refused.unwrap_err().cause.kind, CauseKind::Policy);
    }
}
