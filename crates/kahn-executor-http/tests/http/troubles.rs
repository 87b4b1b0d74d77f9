//! Requests without a response, or with a late one.

#![expect(clippy::unwrap_used, reason = "a server that cannot be set up fails the test")]

use std::process::Command;
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure, HttpRequest};

use crate::support::{Server, Worker, free_port, get};
use kahn_executor::testing::Ended;

fn unreachable(ended: &Ended) -> Failure {
    let failure = ended.failure();
    assert_eq!(failure.cause, Cause::of(CauseKind::Unreachable), "{failure}");
    // The message is also in the log.
    assert!(ended.log.contains(&*failure.message), "{}", ended.log);
    failure
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told() {
    let url = format!("http://127.0.0.1:{}/x?key=canary", free_port());
    let failure = unreachable(&Worker::new().run(get(url)).await);
    assert!(failure.message.contains("Connection refused"), "{failure}");
    assert!(failure.message.contains("/x?***") && !failure.message.contains("canary"), "{failure}");
}

#[tokio::test]
async fn a_name_without_addresses_is_told() {
    let ended = Worker::new().run(get("http://nowhere.invalid/")).await;
    let failure = unreachable(&ended);
    assert!(failure.message.contains("nowhere.invalid cannot be resolved: "), "{failure}");
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_that_is_away() {
    let server = Server::start(|_, _| "plain").await;
    let url = format!("https://{}/", server.address);
    let failure = unreachable(&Worker::new().run(get(url)).await);
    assert!(failure.message.contains("no connection: "), "{failure}");
    assert!(failure.message.contains("InvalidContentType"), "{failure}");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_told_by_how_far_it_came() {
    let worker = Worker::new();
    let server = Server::silent().await;
    let timeout = Duration::from_millis(200);
    let ended = worker.run(HttpRequest { timeout, ..get(server.url("/slow")) }).await;
    let failure = unreachable(&ended);
    assert!(failure.message.contains("/slow did not answer within 200ms"), "{failure}");

    let url = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", true).await;
    let ended = worker.run(HttpRequest { timeout, ..get(url) }).await;
    let failure = unreachable(&ended);
    assert!(failure.message.contains("did not end its answer within 200ms: 3 bytes"), "{failure}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told() {
    let url = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", false).await;
    let failure = unreachable(&Worker::new().run(get(url)).await);
    assert!(failure.message.contains("the answer broke off"), "{failure}");
    let url = raw(b"SSH-2.0-OpenSSH\r\n", false).await;
    let failure = unreachable(&Worker::new().run(get(url)).await);
    assert!(failure.message.contains("no answer: "), "{failure}");
}

/// Returns the URL of a server that sends this response once, and then stays connected or closes.
async fn raw(answer: &'static [u8], stays: bool) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(answer).await.unwrap();
        if stays {
            std::future::pending::<()>().await;
        }
    });
    url
}

#[tokio::test]
async fn a_request_ends_with_its_attempt() {
    use tokio::io::AsyncReadExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let worker = Worker::new();
    let running = worker.start(get(url), None);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    running.stopper.stop(CauseKind::Preempted);
    let ended = running.ended().await;
    assert_eq!(ended.failure(), Failure::of(CauseKind::Preempted));
    assert!(ended.log.ends_with("[kahn] preempted\n"), "{}", ended.log);
    // The server sees that the connection was closed.
    assert_eq!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
}

#[tokio::test]
async fn the_run_timeout_ends_a_request() {
    let server = Server::silent().await;
    let limit = Some(Duration::from_millis(150));
    let ended = Worker::new().start(get(server.url("/")), limit).ended().await;
    assert_eq!(ended.failure().cause, Cause::of(CauseKind::RunTimeout));
    assert_eq!(&*ended.failure().message, "ran for longer than 150ms");
}

/// The environment of this process cannot be changed, so the test runs in a child process.
#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used() {
    const INNER: &str = "KAHN_TEST_WITH_PROXY";
    if std::env::var_os(INNER).is_some() {
        let server = Server::start(|_, _| "direct").await;
        let ended = Worker::new().run(get(server.url("/"))).await;
        assert_eq!(ended.output("body"), Some("\"direct\""));
        return;
    }
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "troubles::a_proxy_of_the_environment_is_not_used"]).env(INNER, "1");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, &nobody);
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
