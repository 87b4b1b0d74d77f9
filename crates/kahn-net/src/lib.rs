//! Connections between the processes of a cluster: the addresses of coordinators, and TLS.
//!
//! Both sides read their certificates from files, and again after the files have changed, so that
//! certificates can be replaced while the processes run.

mod accept;
mod addresses;
#[cfg(feature = "authority")]
pub mod authority;
mod dial;
mod refuse;
mod stream;
mod tls;

pub use accept::{Accepting, Acceptor, Incoming};
pub use addresses::{Addresses, InvalidAddress};
pub use dial::DialError;
pub use refuse::refuse_plain;
pub use stream::{PeerInfo, Stream};
pub use tls::Protocol;
pub use tls::client::ClientTls;
pub use tls::expiry::certificate_expiry;
pub use tls::files::TlsFileError;
pub use tls::server::{ClientAuth, ServerTls, ServerTlsFiles};
