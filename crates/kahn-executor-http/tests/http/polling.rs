//! Requests that are repeated.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use kahn_model::{Cause, CauseKind, Failure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Server, Worker, get, json, until};

#[tokio::test]
async fn a_request_is_repeated_until_the_answer_is_as_wanted() {
    let server = Server::start(|_, n| {
        let state = if n < 4 { "running" } else { "done" };
        json(format!("{{\"state\": \"{state}\", \"n\": {n}}}"))
    })
    .await;
    let request = until(
        get(server.url("/job")),
        "response.json.state == 'done' && response.status == 200 \
         && response.headers['content-type'].startsWith('application/json') \
         && response.body.contains('done')",
    );
    let ended = Worker::new().run(request).await;
    assert_eq!(ended.output("json"), Some("{\"state\": \"done\", \"n\": 4}"));
    assert_eq!(ended.log.matches("200 OK, not yet").count(), 3, "{}", ended.log);
    // The first and the last response are logged in full.
    assert_eq!(ended.log.matches("< HTTP/1.1 200 OK").count(), 2, "{}", ended.log);
    assert!(ended.log.ends_with("{\"state\": \"done\", \"n\": 4}\n"), "{}", ended.log);
}

#[tokio::test]
async fn a_condition_about_the_status_waits_for_it() {
    let server = Server::start(|_, n| match n {
        1 => (StatusCode::SERVICE_UNAVAILABLE, "starting").into_response(),
        2 => (StatusCode::OK, "still there").into_response(),
        _ => (StatusCode::NOT_FOUND, "gone").into_response(),
    })
    .await;
    let request = until(get(server.url("/")), "response.status == 404");
    let ended = Worker::new().run(request).await;
    assert_eq!((ended.output("status"), ended.output("body")), (Some("404"), Some("\"gone\"")));
}

#[tokio::test]
async fn an_unexpected_status_fails_where_the_condition_is_about_something_else() {
    let server =
        Server::start(
            |_, n| if n < 2 { (StatusCode::OK, "{}") } else { (StatusCode::BAD_GATEWAY, "oh") },
        )
        .await;
    let worker = Worker::new();
    let request = until(get(server.url("/")), "has(response.json.state)");
    let ended = worker.run(request).await;
    assert_eq!(ended.failure().cause, Cause::http_status(502));
    assert!(ended.log.contains("\n< HTTP/1.1 502 Bad Gateway\n"), "{}", ended.log);
    // Unless the condition holds for that response.
    let ended = worker.run(until(get(server.url("/")), "response.body == 'oh'")).await;
    assert_eq!(ended.output("status"), Some("502"));
}

#[tokio::test]
async fn a_condition_that_cannot_be_evaluated_fails_and_says_why() {
    let server = Server::start(|_, _| json("{}")).await;
    let request = until(get(server.url("/")), "response.json.state == 'done'");
    let failure = Worker::new().run(request).await.failure();
    assert_eq!(failure.cause, Cause::of(CauseKind::Expression));
    assert!(
        failure.message.starts_with("`until`: ") && failure.message.contains("has()"),
        "{failure}"
    );
}

#[tokio::test]
async fn who_does_not_answer_is_asked_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        for n in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            if n == 2 {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup").await.unwrap();
            }
        }
    });
    let ended = Worker::new().run(until(get(url), "response.status == 200")).await;
    assert_eq!(ended.output("body"), Some("\"up\""));
    assert!(ended.log.contains("[kahn] answer 1: none: "), "{}", ended.log);
    serving.await.unwrap();
}

#[tokio::test]
async fn polling_ends_when_asked_to_and_when_its_time_is_up() {
    let server = Server::start(|_, _| "no").await;
    let worker = Worker::new();
    let request = until(get(server.url("/")), "response.body == 'yes'");
    let ended = worker.stop_when_printed(request.clone(), "answer 3: 200 OK, not yet").await;
    assert_eq!(ended.failure(), Failure::of(CauseKind::Cancelled));
    let ended = worker.start(request, Some(Duration::from_millis(200))).ended().await;
    assert_eq!(ended.failure().cause, Cause::of(CauseKind::RunTimeout));
    let request = until(get(Server::silent().await.url("/")), "true");
    let ended = worker.stop_when_printed(request, "> GET").await;
    assert_eq!(ended.failure(), Failure::of(CauseKind::Cancelled));
}
