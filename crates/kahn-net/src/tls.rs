//! TLS on both sides of a connection.

pub(crate) mod client;
pub(crate) mod expiry;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod server;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The protocol over TLS, as it is negotiated (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, as gRPC needs it.
    Http2,
}

impl Protocol {
    /// Returns the name under which it is negotiated.
    pub(crate) fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    fn alpn(self) -> Vec<Vec<u8>> {
        vec![self.name().to_vec()]
    }
}

/// The cryptography. It is always named, because a process may have no default.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
