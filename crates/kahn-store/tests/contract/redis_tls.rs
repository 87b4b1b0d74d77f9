//! TLS and users: what works, and that each way to fail has a clear message without a password.

use std::net::TcpListener;
use std::path::PathBuf;

use kahn_net::ClientTls;
use kahn_store::testing::{Authority, Certificate, RedisServer};
use kahn_store::{Claim, RedisConfig, RedisStore};

use crate::support::{P0, Watched, cluster, open, owner};

/// A server with a port for TLS.
struct TlsServer {
    server: RedisServer,
    port: u16,
}

fn start(authority: &Authority, certificate: &Certificate, auth_clients: &str) -> TlsServer {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let args = [
        "--appendonly".to_owned(),
        "yes".to_owned(),
        "--tls-port".to_owned(),
        port.to_string(),
        "--tls-cert-file".to_owned(),
        text(&certificate.cert),
        "--tls-key-file".to_owned(),
        text(&certificate.key),
        "--tls-ca-cert-file".to_owned(),
        text(&authority.ca_file()),
        "--tls-auth-clients".to_owned(),
        auth_clients.to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    TlsServer { server: RedisServer::start_with(&args), port }
}

impl TlsServer {
    /// Returns a configuration that trusts an authority and has no certificate of its own.
    fn config(&self, authority: &Authority) -> RedisConfig {
        let tls = ClientTls { ca_file: Some(authority.ca_file()), ..ClientTls::default() };
        RedisConfig { tls, ..RedisConfig::new(format!("rediss://127.0.0.1:{}", self.port)) }
    }
}

/// Returns the message with which a configuration is refused.
async fn refusal(config: &RedisConfig) -> String {
    RedisStore::open(config, cluster(1)).await.unwrap_err().to_string()
}

#[track_caller]
fn check_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not contain {part:?}");
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_of_our_authority_is_used() {
    let authority = Authority::new();
    let server = start(&authority, &authority.issue("server"), "yes");
    let client = authority.issue("client");
    let mut config = server.config(&authority);
    check_contains(&refusal(&config).await, &["client certificate", "cert_file", "key_file"]);
    config.tls.cert_file = Some(client.cert);
    check_contains(&refusal(&config).await, &["client.pem", "without key_file"]);
    config.tls.key_file = Some(client.key);
    let store = open(&config, cluster(1)).await.unwrap();
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    watched.push(vec![7; 1 << 20]);
    watched.check_complete(&*store).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = start(&authority, &authority.issue("server"), "yes");
    let refused = refusal(&server.config(&other)).await;
    check_contains(&refused, &["UnknownIssuer", "ca_file", &format!("127.0.0.1:{}", server.port)]);
    let client = other.issue("client");
    let mut config = server.config(&authority);
    config.tls.cert_file = Some(client.cert);
    config.tls.key_file = Some(client.key);
    check_contains(&refusal(&config).await, &["redis refuses our certificate", "cert_file"]);
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_is_for_another_host_is_refused() {
    let authority = Authority::new();
    let expired = start(&authority, &authority.issue_expired("expired"), "no");
    check_contains(&refusal(&expired.config(&authority)).await, &["has expired", "renew"]);
    let elsewhere = authority.issue_for("elsewhere", "redis.example", 1);
    let elsewhere = start(&authority, &elsewhere, "no");
    check_contains(&refusal(&elsewhere.config(&authority)).await, &["must name the host"]);
}

#[tokio::test]
async fn ports_with_and_without_tls_are_told_apart() {
    let authority = Authority::new();
    let server = start(&authority, &authority.issue("server"), "no");
    let plain = format!("rediss://127.0.0.1:{}", server.server.port());
    let config = RedisConfig { url: plain, ..server.config(&authority) };
    check_contains(&refusal(&config).await, &[&server.server.port().to_string()]);
    let config = RedisConfig::new(format!("redis://127.0.0.1:{}", server.port));
    check_contains(&refusal(&config).await, &["a port with TLS needs the scheme rediss"]);
    let config = RedisConfig { url: server.server.url(), ..server.config(&authority) };
    check_contains(&refusal(&config).await, &["does not ask for TLS", "rediss"]);
}

#[tokio::test]
async fn files_that_are_missing_or_contain_something_else_are_named() {
    let authority = Authority::new();
    let server = start(&authority, &authority.issue("server"), "no");
    let mut config = server.config(&authority);
    config.tls.ca_file = Some(PathBuf::from("/nowhere/ca.pem"));
    check_contains(&refusal(&config).await, &["/nowhere/ca.pem"]);
    let key = authority.issue("other").key;
    config.tls.ca_file = Some(key.clone());
    check_contains(&refusal(&config).await, &[key.to_str().unwrap(), "no certificate"]);
}

#[tokio::test]
async fn a_user_with_the_documented_permissions_suffices() {
    let server = RedisServer::start("everysec");
    let commands = "+evalsha +script|load +get +set +del +unlink +hget +hset +hsetnx +hincrby +hmget +sadd +srem \
                    +sscan +xadd +xrange +xtrim +info +config|get";
    let user = ["ACL", "SETUSER", "kahn", "on", ">hunter2", "~kahn:*"];
    server.run(&user.into_iter().chain(commands.split_whitespace()).collect::<Vec<_>>());
    let config = RedisConfig::new(format!("redis://kahn:hunter2@127.0.0.1:{}", server.port()));
    let store = open(&config, cluster(1)).await.unwrap();
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    store.put_blob(P0, "x", "blob".into()).await.unwrap();
    assert!(store.get_blob(P0, "x").await.unwrap().is_some());
    assert_eq!(store.list_blobs(P0, "").await.unwrap(), ["x"]);
    let mut watched = Watched::spawn(&store, acquired);
    watched.check_complete(&*store).await;
    store.checkpoint(P0, acquired.term, 1, "all".into()).await.unwrap();
    assert!(store.load_checkpoint(P0).await.unwrap().is_some());
    store.delete_blobs(P0, acquired.term, &["x".to_owned()]).await.unwrap();
    watched.appender.close().await;
}

#[tokio::test]
async fn a_password_in_a_file_may_change_while_the_store_is_open() {
    let server = RedisServer::start("everysec");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let set = |password: &str| {
        let (reset, password) = ("resetpass", format!(">{password}"));
        server.run(&["ACL", "SETUSER", "kahn", "on", reset, &password, "~*", "&*", "+@all"]);
    };
    set("hunter2");
    let config = RedisConfig {
        user: Some("kahn".to_owned()),
        password_file: Some(file.clone()),
        ..RedisConfig::new(server.url())
    };
    let store = open(&config, cluster(1)).await.unwrap();
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    watched.check_complete(&*store).await;
    set("hunter3");
    std::fs::write(&file, "hunter3").unwrap();
    server.run(&["CLIENT", "KILL", "USER", "kahn"]);
    watched.check_complete(&*store).await;
    std::fs::write(&file, "hunter4").unwrap();
    let refused = refusal(&config).await;
    assert!(!refused.contains("hunter"), "{refused}");
    check_contains(&refused, &["127.0.0.1", "uthenti"]);
}
