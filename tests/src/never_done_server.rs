//! HTTP servers that never give the wanted response.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::port::free_port;

type Asked = Arc<Mutex<BTreeMap<String, u32>>>;

/// A server that responds `{"done":false}` with the status at the beginning of the path, such as
/// `/200/anything`. It never responds to other paths.
#[derive(Debug)]
pub struct NeverDoneServer {
    /// The port on this host.
    pub port: u16,
    asked: Asked,
}

impl NeverDoneServer {
    /// Starts the server, which runs until the test process exits.
    ///
    /// # Errors
    ///
    /// Returns an error if no port is available.
    pub fn start() -> anyhow::Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let asked = Asked::default();
        let counts = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = Arc::clone(&counts);
                std::thread::spawn(move || serve(stream, &counts));
            }
        });
        Ok(Self { port, asked })
    }

    /// Returns the number of requests for a path.
    #[must_use]
    pub fn n_asked(&self, path: &str) -> u32 {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(path).copied().unwrap_or(0)
    }
}

/// Responds to requests until the client disconnects.
fn serve(mut stream: TcpStream, asked: &Asked) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..n]);
        while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).into_owned();
            seen.drain(..end + 4);
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let status = path.split('/').nth(1).and_then(|word| word.parse::<u16>().ok());
            *asked.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_default() += 1;
            let Some(status) = status else { continue };
            let answer = format!(
                "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n\
                 content-length: 14\r\n\r\n{{\"done\":false}}"
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
