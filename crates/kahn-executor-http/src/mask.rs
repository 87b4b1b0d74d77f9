//! Masks credentials of requests and responses in logs.

use std::fmt;

use reqwest::Url;
use reqwest::header::{CONTENT_LOCATION, HeaderName, HeaderValue, LOCATION, REFERER};

const MASK: &str = "***";

/// Words in the names of headers with credentials: `Authorization` and `Proxy-Authorization`,
/// `Cookie` and `Set-Cookie`, `X-Api-Key`, and similar ones.
const SECRET_WORDS: [&str; 9] = [
    "authorization",
    "cookie",
    "api-key",
    "apikey",
    "x-auth",
    "token",
    "secret",
    "password",
    "signature",
];

/// Returns whether a header contains credentials, judged by its name.
pub(super) fn is_secret(name: &HeaderName) -> bool {
    SECRET_WORDS.iter().any(|word| name.as_str().contains(word))
}

/// Formats a header with credentials masked.
pub(super) struct Header<'a>(pub(super) &'a HeaderName, pub(super) &'a HeaderValue);

impl fmt::Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, value) = self;
        if is_secret(name) || value.is_sensitive() {
            return write!(f, "{name}: {MASK}");
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        if [LOCATION, CONTENT_LOCATION, REFERER].contains(name) {
            return write!(f, "{name}: {}", Reference(&text));
        }
        write!(f, "{name}: {text}")
    }
}

/// Formats a URL without userinfo and query, and without the fragment, which is never sent.
pub(super) struct MaskedUrl<'a>(pub(super) &'a Url);

impl fmt::Display for MaskedUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(url) = self;
        write!(f, "{}://", url.scheme())?;
        if !url.username().is_empty() || url.password().is_some() {
            write!(f, "{MASK}@")?;
        }
        f.write_str(url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        if url.query().is_some() {
            write!(f, "?{MASK}")?;
        }
        Ok(())
    }
}

/// An absolute URL, or a relative one that starts with its path.
struct Reference<'a>(&'a str);

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(url) = Url::parse(self.0) {
            return MaskedUrl(&url).fmt(f);
        }
        // A relative reference to another host may also contain userinfo.
        if self.0.contains('@') {
            return f.write_str(MASK);
        }
        let path = self.0.split('#').next().unwrap_or_default();
        match path.split_once('?') {
            Some((path, _)) => write!(f, "{path}?{MASK}"),
            None => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_and_query_of_a_url_are_masked() {
        for (url, shown) in [
            ("https://a.example/x", "https://a.example/x"),
            ("https://user:word@a.example:8443/x?key=1#part", "https://***@a.example:8443/x?***"),
            ("http://user@[::1]/", "http://***@[::1]/"),
        ] {
            assert_eq!(MaskedUrl(&url.parse().unwrap()).to_string(), shown);
        }
    }

    #[test]
    fn headers_with_credentials_are_masked() {
        let shown = |name: &str, value: &'static str| {
            Header(&name.parse().unwrap(), &HeaderValue::from_static(value)).to_string()
        };
        for name in [
            "Authorization",
            "Cookie",
            "Set-Cookie",
            "Proxy-Authorization",
            "X-Api-Key",
            "X-Auth-Token",
        ] {
            assert_eq!(shown(name, "canary"), format!("{}: ***", name.to_lowercase()));
        }
        assert_eq!(shown("Accept", "a/b"), "accept: a/b");
        let mut secret = HeaderValue::from_static("canary");
        secret.set_sensitive(true);
        assert_eq!(Header(&"X-Plain".parse().unwrap(), &secret).to_string(), "x-plain: ***");
        assert_eq!(shown("Location", "https://a:b@c/d?e"), "location: https://***@c/d?***");
        assert_eq!(shown("Location", "/d?e#f"), "location: /d?***");
        assert_eq!(shown("Location", "//a:b@c/d"), "location: ***");
    }
}
