//! One question over HTTP, without a client library.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

/// All that a process serves on `/metrics`, headers included.
///
/// # Errors
///
/// When nothing answers.
pub(crate) fn metrics(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut body = String::new();
    stream.read_to_string(&mut body)?;
    Ok(body)
}

/// The value of a metric of a process that serves `/metrics` on `port` of this machine; zero when
/// it is not there.
///
/// # Errors
///
/// When nothing answers.
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
