//! HTTP requests without a client library.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

/// Returns the response of `/metrics`, including headers.
///
/// # Errors
///
/// Returns an error if there is no response.
pub(crate) fn metrics(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut body = String::new();
    stream.read_to_string(&mut body)?;
    Ok(body)
}

/// Returns the value of a metric from `/metrics` on `port` of this host, or zero if it is missing.
///
/// # Errors
///
/// Returns an error if there is no response.
pub fn metric(port: u16, name: &str) -> anyhow::Result<f64> {
    let body = metrics(port)?;
    let line = body
        .lines()
        .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    match line {
        None => Ok(0.0),
        Some(line) => {
            let value = line.rsplit(' ').next().context("a metric without a value")?;
            Ok(value.parse()?)
        }
    }
}
