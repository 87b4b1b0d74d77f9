//! Forbidden destinations.

use axum::http::StatusCode;
use kahn_model::{Cause, CauseKind};

use crate::support::{ReceivedRequest, Server, Worker, get, redirect, until, with_headers};
use kahn_executor::testing::Ended;

fn refused(ended: &Ended) -> String {
    let failure = ended.failure();
    assert_eq!(failure.cause, Cause::of(CauseKind::Policy), "{failure}");
    assert!(failure.message.contains("`worker.http.allow`"), "{failure}");
    failure.message.into()
}

#[tokio::test]
async fn loopback_is_refused_however_it_is_written() {
    let server = Server::start(|_, _| "secret").await;
    let worker = Worker::allowing(&[]);
    for host in
        ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0177.0.0.1", "localhost"]
    {
        let ended = worker.run(get(format!("http://{host}:{}/", server.address.port()))).await;
        let message = refused(&ended);
        assert!(message.contains("which is loopback"), "{message}");
        assert!(message.contains("127.0.0.1") || message.contains("::1"), "{message}");
        assert!(!ended.log.contains("secret"), "{}", ended.log);
    }
}

#[tokio::test]
async fn the_network_around_the_worker_is_refused() {
    let worker = Worker::new();
    for (host, word) in [
        ("169.254.169.254", "link-local"),
        ("[fd00:ec2::254]", "private"),
        ("[64:ff9b::a9fe:a9fe]", "link-local"),
        ("10.0.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "shared by carriers"),
        ("224.0.0.1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("[::1]", "loopback"),
    ] {
        let message = refused(&worker.run(get(format!("http://{host}/"))).await);
        assert!(message.contains(&format!("which is {word}")), "{message}");
    }
}

#[tokio::test]
async fn a_name_that_is_listed_is_allowed_whatever_its_address() {
    let server = Server::start(|_, _| "here").await;
    let url = format!("http://LocalHost:{}/", server.address.port());
    let ended = Worker::allowing(&["localhost"]).run(get(&*url)).await;
    assert_eq!(ended.output("body"), Some("\"here\""));
    // A listed name does not allow its addresses when they are used directly.
    refused(&Worker::allowing(&["localhost"]).run(get(server.url("/"))).await);
}

#[tokio::test]
async fn a_redirect_into_forbidden_parts_is_refused() {
    let worker = Worker::new();
    for (to, address) in [
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("http://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1"),
        ("//0x7f.0.0.2/", "127.0.0.2"),
    ] {
        let server = Server::start(move |_, _| redirect(StatusCode::FOUND, to)).await;
        for request in [get(server.url("/")), until(get(server.url("/")), "false")] {
            let message = refused(&worker.run(request).await);
            assert!(message.contains(address), "{message}");
        }
    }
}

#[tokio::test]
async fn a_redirect_by_name_is_checked_by_its_addresses() {
    let server = Server::start_at("127.0.0.2", |request: ReceivedRequest, _| {
        let port = request.header("host").unwrap().rsplit(':').next().unwrap().to_owned();
        redirect(StatusCode::FOUND, format!("http://localhost:{port}/secret"))
    })
    .await;
    // The address is allowed, but the name's addresses are not.
    let ended = Worker::allowing(&["127.0.0.2"]).run(get(server.url("/"))).await;
    let message = refused(&ended);
    assert!(message.contains("/secret may not be requested: localhost has"), "{message}");
}

#[tokio::test]
async fn a_redirect_to_another_port_takes_no_credentials_along() {
    let other = Server::start(|request: ReceivedRequest, _| {
        format!("{:?} {:?}", request.header("x-api-key"), request.header("accept"))
    })
    .await;
    let to = other.url("/");
    let server = Server::start(move |_, _| redirect(StatusCode::TEMPORARY_REDIRECT, &*to)).await;
    let headers = [("X-Api-Key", "secret"), ("Accept", "text/plain")];
    let ended = Worker::new().run(with_headers(get(server.url("/")), &headers)).await;
    assert_eq!(ended.output("body"), Some("\"None Some(\\\"text/plain\\\")\""));
}
