//! Handshakes over real sockets, with certificates that are right and with some that are not.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kahn_net::authority::{Authority, Issued, Usage};
use kahn_net::{
    Acceptor, Addresses, ClientAuth, ClientTls, DialError, Incoming, PeerInfo, Protocol, ServerTls,
    ServerTlsFiles, certificate_expiry,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::transport::Endpoint;
use tonic::transport::server::Connected as _;

/// A directory with an authority and certificates.
struct Certs {
    dir: TempDir,
    authority: Authority,
}

impl Certs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, issued) = Authority::create("test", 10).unwrap();
        let certs = Self { dir, authority };
        certs.write("ca", &issued);
        certs
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn write(&self, name: &str, issued: &Issued) {
        std::fs::write(self.path(&format!("{name}.pem")), &issued.certificate).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), &issued.key).unwrap();
    }

    fn issue(&self, name: &str, host: &str) {
        self.write(
            name,
            &self.authority.issue(name, Usage::Server(&[host.to_owned()]), 1).unwrap(),
        );
    }

    fn issue_expired(&self, name: &str) {
        let now = OffsetDateTime::now_utc();
        let ended = (now - Duration::from_secs(7200), now - Duration::from_secs(3600));
        let usage = Usage::Server(&["127.0.0.1".to_owned()]);
        let issued = self.authority.issue_during(name, usage, ended).unwrap();
        self.write(name, &issued);
    }

    fn server(&self, name: &str) -> ServerTlsFiles {
        let file = |extension: &str| self.path(&format!("{name}.{extension}"));
        ServerTlsFiles::new(file("pem"), file("key"))
    }

    fn trusting(&self) -> ClientTls {
        ClientTls { ca_file: Some(self.path("ca.pem")), ..ClientTls::default() }
    }

    fn client(&self, name: &str) -> ClientTls {
        ClientTls {
            cert_file: Some(self.path(&format!("{name}.pem"))),
            key_file: Some(self.path(&format!("{name}.key"))),
            ..self.trusting()
        }
    }
}

/// A server that begins to speak after the handshake, as one for HTTP/2 does.
struct Server {
    address: SocketAddr,
    peers: mpsc::Receiver<PeerInfo>,
    plain: mpsc::Receiver<kahn_net::Stream>,
}

impl Server {
    async fn start(files: ServerTlsFiles) -> Self {
        let tls = ServerTls::load(files, Protocol::Http2).unwrap();
        let acceptor = Acceptor::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(tls)).unwrap();
        let address = acceptor.local_addr().unwrap();
        let Incoming { mut ready, plain, .. } = acceptor.run().unwrap();
        let (tx, peers) = mpsc::channel(100);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Some(mut stream) = ready.recv().await {
                // A client may have left.
                drop(stream.write_all(b"x").await);
                drop(stream.flush().await);
                drop(tx.send(stream.connect_info()).await);
                open.push(stream);
            }
        });
        Self { address, peers, plain }
    }
}

async fn connect(address: SocketAddr, tls: &ClientTls) -> Result<(), tonic::transport::Error> {
    let addresses = Addresses::parse(&format!("https://{address}")).unwrap().with_tls(tls.clone());
    addresses.connect(Endpoint::from(addresses.preferred().clone())).await.map(drop)
}

/// Checks that connecting fails for good, with a message that contains `expected`.
#[track_caller]
fn check_refused(result: Result<(), tonic::transport::Error>, expected: &str) {
    let error = result.unwrap_err();
    let cause = DialError::cause_of(&error).unwrap();
    assert!(cause.is_permanent(), "{cause}");
    assert!(cause.to_string().contains(expected), "{cause}");
}

#[tokio::test]
async fn both_sides_trust_certificates_of_their_authority() {
    let certs = Certs::new();
    certs.issue("server", "127.0.0.1");
    certs.issue("client", "client");
    let files =
        ServerTlsFiles { client_ca_file: Some(certs.path("ca.pem")), ..certs.server("server") };
    let mut server = Server::start(files.clone()).await;
    connect(server.address, &certs.client("client")).await.unwrap();
    assert!(server.peers.recv().await.unwrap().has_certificate);

    let optional = ServerTlsFiles { client_auth: ClientAuth::Workers, ..files };
    let mut server = Server::start(optional).await;
    connect(server.address, &certs.trusting()).await.unwrap();
    assert!(!server.peers.recv().await.unwrap().has_certificate);
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_refused_with_the_reason() {
    let (certs, others) = (Certs::new(), Certs::new());
    certs.issue("server", "127.0.0.1");
    certs.issue("elsewhere", "example.com");
    certs.issue_expired("expired");
    let server = Server::start(certs.server("server")).await;
    let ca = others.path("ca.pem").display().to_string();
    check_refused(
        connect(server.address, &others.trusting()).await,
        &format!("no authority in {ca} has issued"),
    );
    check_refused(connect(server.address, &ClientTls::default()).await, "--ca-file");

    let expired = Server::start(certs.server("expired")).await;
    check_refused(connect(expired.address, &certs.trusting()).await, "has expired");
    let elsewhere = Server::start(certs.server("elsewhere")).await;
    check_refused(connect(elsewhere.address, &certs.trusting()).await, "example.com");
}

#[tokio::test]
async fn a_client_that_is_not_trusted_learns_why() {
    let (certs, others) = (Certs::new(), Certs::new());
    certs.issue("server", "127.0.0.1");
    certs.issue_expired("expired");
    others.issue("foreign", "client");
    let files =
        ServerTlsFiles { client_ca_file: Some(certs.path("ca.pem")), ..certs.server("server") };
    let server = Server::start(files).await;
    check_refused(
        connect(server.address, &certs.trusting()).await,
        "requires a client certificate",
    );
    let foreign = ClientTls { ca_file: Some(certs.path("ca.pem")), ..others.client("foreign") };
    check_refused(connect(server.address, &foreign).await, "does not know the authority");
    check_refused(connect(server.address, &certs.client("expired")).await, "it has expired");
}

#[tokio::test]
async fn a_missing_or_wrong_scheme_is_noticed_on_both_sides() {
    let certs = Certs::new();
    certs.issue("server", "127.0.0.1");
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            // The frame with which a server for HTTP/2 begins.
            let (mut stream, _) = plain.accept().await.unwrap();
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        }
    });
    check_refused(
        connect(address, &certs.trusting()).await,
        "does not answer with TLS; write http://",
    );

    let mut server = Server::start(certs.server("server")).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    assert!(matches!(server.plain.recv().await, Some(kahn_net::Stream::Plain(_))));
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_hold_up_others() {
    let certs = Certs::new();
    certs.issue("server", "127.0.0.1");
    let server = Server::start(certs.server("server")).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let tls = certs.trusting();
    let connecting = connect(server.address, &tls);
    tokio::time::timeout(Duration::from_secs(2), connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn replaced_files_are_used_for_the_next_connection_and_broken_ones_are_not() {
    let (certs, others) = (Certs::new(), Certs::new());
    certs.issue("server", "127.0.0.1");
    let server = Server::start(certs.server("server")).await;
    connect(server.address, &certs.trusting()).await.unwrap();

    // The files are looked at once per second.
    std::fs::write(certs.path("server.pem"), "broken").unwrap();
    let until = tokio::time::Instant::now() + Duration::from_millis(2500);
    while tokio::time::Instant::now() < until {
        connect(server.address, &certs.trusting()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await; // poll
    }

    others.issue("server", "127.0.0.1");
    for file in ["server.pem", "server.key"] {
        replace(&others.path(file), &certs.path(file));
    }
    wait_until_trusted(server.address, &others.trusting()).await;
}

#[tokio::test]
async fn files_that_could_not_be_read_at_first_are_read_again() {
    use std::os::unix::fs::symlink;
    let (certs, others) = (Certs::new(), Certs::new());
    certs.issue("server", "127.0.0.1");
    others.issue("server", "127.0.0.1");
    let server = Server::start(certs.server("server")).await;
    // A link to nothing, as a volume may have for a moment.
    let later = certs.path("later.pem");
    std::fs::remove_file(certs.path("server.pem")).unwrap();
    symlink(&later, certs.path("server.pem")).unwrap();
    replace(&others.path("server.key"), &certs.path("server.key"));
    connect(server.address, &certs.trusting()).await.unwrap();
    std::fs::copy(others.path("server.pem"), later).unwrap();
    wait_until_trusted(server.address, &others.trusting()).await;
}

async fn wait_until_trusted(address: SocketAddr, tls: &ClientTls) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while connect(address, tls).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the new certificate is not used");
        tokio::time::sleep(Duration::from_millis(50)).await; // poll
    }
}

fn replace(from: &Path, to: &Path) {
    let new = to.with_extension("new");
    std::fs::copy(from, &new).unwrap();
    std::fs::rename(new, to).unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let load = |files| ServerTls::load(files, Protocol::Http2);
    let certs = Certs::new();
    certs.issue("server", "127.0.0.1");
    certs.issue("other", "127.0.0.1");
    let mixed = ServerTlsFiles { key_file: certs.path("other.key"), ..certs.server("server") };
    let error = load(mixed).unwrap_err().to_string();
    assert!(error.contains("other.key") && error.contains("server.pem"), "{error}");

    let missing = load(certs.server("missing")).unwrap_err().to_string();
    assert!(missing.contains("missing.pem"), "{missing}");
    let swapped = ServerTlsFiles { cert_file: certs.path("server.key"), ..certs.server("server") };
    let error = load(swapped).unwrap_err().to_string();
    assert!(error.contains("no certificate") && !error.contains("PRIVATE"), "{error}");

    let server = Server::start(certs.server("server")).await;
    let alone = ClientTls { cert_file: Some(certs.path("other.pem")), ..certs.trusting() };
    check_refused(connect(server.address, &alone).await, "without key_file");
}

#[test]
fn the_first_certificate_of_a_chain_to_expire_says_when_it_expires() {
    let certs = Certs::new();
    certs.issue("server", "127.0.0.1");
    certs.issue_expired("expired");
    let from_now = |name: &str| {
        let expiry = certificate_expiry(&certs.path(name)).unwrap();
        let now = OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
        let expiry = expiry.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        expiry.as_secs().saturating_sub(now)
    };
    let day = 24 * 3600;
    assert!((day - 100..=day).contains(&from_now("server.pem")), "{}", from_now("server.pem"));
    assert_eq!(from_now("expired.pem"), 0);
    let read = |name: &str| std::fs::read_to_string(certs.path(name)).unwrap();
    std::fs::write(certs.path("chain.pem"), read("ca.pem") + &read("server.pem")).unwrap();
    assert_eq!(from_now("chain.pem"), from_now("server.pem"));

    let error = certificate_expiry(&certs.path("server.key")).unwrap_err().to_string();
    assert!(error.contains("server.key"), "{error}");
    assert!(certificate_expiry(&certs.path("none.pem")).is_err());
}

#[tokio::test]
async fn a_socket_refuses_connections_until_it_runs() {
    let acceptor = Acceptor::bind((Ipv4Addr::LOCALHOST, 0).into(), None).unwrap();
    let address = acceptor.local_addr().unwrap();
    let early = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut incoming = acceptor.run().unwrap();
    let _client = TcpStream::connect(address).await.unwrap();
    assert!(incoming.ready.recv().await.is_some());

    let taken = Acceptor::bind(address, None).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}
