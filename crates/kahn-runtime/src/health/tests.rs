//! Tests with real sockets and hand-written HTTP/1.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Case {
    server: HealthServer,
    readiness: Readiness,
}

async fn case(settings: HealthSettings) -> Case {
    let readiness = Readiness::new();
    let metrics = Metrics::new();
    metrics.counter("leases", "Leases granted").inc();
    let server = HealthServer::start(&settings, readiness.clone(), metrics).await.unwrap();
    Case { server, readiness }
}

async fn on_loopback() -> Case {
    case(HealthSettings::on_loopback(0)).await
}

fn off_loopback() -> HealthSettings {
    HealthSettings { listen: (Ipv4Addr::UNSPECIFIED, 0).into(), ..HealthSettings::default() }
}

impl Case {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.server.address().port())).await.unwrap()
    }

    /// Sends a request and reads until the server closes.
    async fn send(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // A refusal may arrive and close the connection before everything is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: k\r\nconnection: close\r\n{headers}\r\n");
        let answer = self.send(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn health_is_ok_and_unknown_paths_are_not_found() {
    let case = on_loopback().await;
    assert_ne!(case.server.address().port(), 0);
    assert_eq!(case.get("/health", "").await, (200, String::new()));
    assert_eq!(case.get("/debug", "").await.0, 404);
}

#[tokio::test]
async fn readiness_follows_the_checks_and_names_failed_ones() {
    let case = on_loopback().await;
    case.readiness.set("store", Err("redis is away".to_owned()));
    case.readiness.set("leadership", Ok(()));
    let (status, body) = case.get("/ready", "").await;
    assert_eq!(status, 503);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["reasons"], serde_json::json!({ "store": "redis is away" }));
    case.readiness.set("store", Ok(()));
    assert!(case.readiness.is_ready());
    let (status, body) = case.get("/ready", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"ready":true,"reasons":{}}"#));
}

#[tokio::test]
async fn metrics_are_open_on_loopback() {
    let case = on_loopback().await;
    let (status, body) = case.get("/metrics", "").await;
    assert_eq!(status, 200);
    assert!(body.contains("kahn_leases_total 1"), "{body}");
    assert!(!body.contains("# EOF"), "{body}");
    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (_, body) = case.get("/metrics", accept).await;
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn off_loopback_metrics_require_a_configured_token() {
    let case = case(off_loopback()).await;
    case.readiness.set("store", Err("redis is away".to_owned()));
    assert_eq!(case.get("/metrics", "").await, (401, String::new()));
    assert_eq!(case.get("/ready", "").await, (503, String::new()));
    assert_eq!(case.get("/health", "").await, (200, String::new()));
}

#[tokio::test]
async fn only_the_configured_token_gives_access_to_metrics() {
    let token = Token::generate().unwrap();
    let metrics_token = Some(Secret::new(token.expose()));
    for settings in [off_loopback(), HealthSettings::on_loopback(0)] {
        let case = case(HealthSettings { metrics_token: metrics_token.clone(), ..settings }).await;
        for header in ["", "authorization: Bearer nothing\r\n", "authorization: Bearer \r\n"] {
            assert_eq!(case.get("/metrics", header).await, (401, String::new()), "{header}");
        }
        let header = format!("authorization: {}\r\n", token.to_header().expose());
        assert_eq!(case.get("/metrics", &header).await.0, 200);
        assert!(case.get("/ready", &header).await.1.contains("reasons"));
    }
}

#[tokio::test]
async fn large_headers_and_bodies_are_refused() {
    let case = on_loopback().await;
    let large = format!("x-filler: {}\r\n", "x".repeat(64 * 1024));
    let answer = case.send(&format!("GET /health HTTP/1.1\r\nhost: k\r\n{large}\r\n")).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let many: String = (0..100).map(|n| format!("x-{n}: y\r\n")).collect();
    let answer = case.send(&format!("GET /health HTTP/1.1\r\nhost: k\r\n{many}\r\n")).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    for framing in ["content-length: 5000000", "transfer-encoding: chunked"] {
        let request =
            format!("GET /health HTTP/1.1\r\nhost: k\r\nconnection: close\r\n{framing}\r\n\r\n");
        let answer = case.send(&request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
}

#[tokio::test]
async fn a_caller_that_never_finishes_its_headers_is_disconnected() {
    let case = on_loopback().await;
    let mut slow = case.connect().await;
    slow.write_all(b"GET /health HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(2 * listener::HEADER_TIMEOUT, slow.read_to_end(&mut answer));
    assert!(closed.await.is_ok());
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_free_slot() {
    let case = on_loopback().await;
    let mut idle = Vec::new();
    for _ in 0..listener::MAX_CONNECTIONS {
        let mut stream = case.connect().await;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: k\r\n\r\n").await.unwrap();
        stream.read_u8().await.unwrap();
        idle.push(stream);
    }
    let waiting = case.get("/health", "");
    tokio::pin!(waiting);
    let mut first = idle.pop().unwrap();
    let many_turns = async {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut waiting => panic!("there was room for one connection too many"),
        () = many_turns => {}
    }
    first.shutdown().await.unwrap();
    assert_eq!(waiting.await.0, 200);
}

#[tokio::test]
async fn a_stopped_server_accepts_no_connections() {
    let case = on_loopback().await;
    let address = case.server.address();
    let idle = case.connect().await;
    case.server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn an_address_in_use_is_named_in_the_error() {
    let case = on_loopback().await;
    let settings = HealthSettings::on_loopback(case.server.address().port());
    let error = HealthServer::start(&settings, Readiness::new(), Metrics::new()).await.unwrap_err();
    assert!(error.to_string().contains(&case.server.address().to_string()), "{error}");
}
