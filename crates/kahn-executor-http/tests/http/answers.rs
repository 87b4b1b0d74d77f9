//! Requests with a response.

#![expect(clippy::unwrap_used, reason = "a server that cannot be set up fails the test")]

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use kahn_model::limits::OUTPUT_BYTES_MAX;
use kahn_model::{Body, Cause, HttpRequest, StatusRange, Text};

use crate::support::{ReceivedRequest, Server, Worker, get, json, post, redirect, with_headers};

/// A server that responds with the request that it received.
async fn echo() -> Server {
    Server::start(|request: ReceivedRequest, _| {
        let header = |name: &str| request.header(name).unwrap_or("none").to_owned();
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        [
            request.method.to_string(),
            request.uri.clone(),
            header("content-type"),
            header("traceparent"),
            header("idempotency-key"),
            header("user-agent").split('/').next().unwrap_or_default().to_owned(),
            body,
        ]
        .join("\n")
    })
    .await
}

#[tokio::test]
async fn an_answer_in_json_becomes_outputs() {
    let server = Server::start(|_, _| {
        let headers = [("content-type", "application/json"), ("x-own", "a"), ("x-own", "b")];
        let headers = headers.map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), value.parse().unwrap())
        });
        let mut response = " {\"rows\": 12345678901234567890123}\n".into_response();
        response.headers_mut().remove("content-type");
        headers
            .into_iter()
            .for_each(|(name, value)| _ = response.headers_mut().append(name, value));
        (StatusCode::CREATED, response)
    })
    .await;
    let ended = Worker::new().run(get(server.url("/rows"))).await;
    assert_eq!(ended.output("status"), Some("201"));
    // Unchanged: parsing and printing it would lose digits.
    assert_eq!(ended.output("json"), Some("{\"rows\": 12345678901234567890123}"));
    assert_eq!(ended.output("body"), None);
    let headers = ended.output("headers").unwrap();
    assert!(headers.contains("\"x-own\":\"a, b\""), "{headers}");
    assert!(headers.contains("\"content-type\":\"application/json\""), "{headers}");
    for line in [&*format!("> GET {}\n", server.url("/rows")), "< HTTP/1.1 201 Created\n"] {
        assert!(ended.log.contains(line), "{}", ended.log);
    }
    assert!(ended.log.ends_with("<\n {\"rows\": 12345678901234567890123}\n"), "{}", ended.log);
}

#[tokio::test]
async fn a_request_carries_what_the_task_says_and_who_it_is() {
    let (server, worker) = (echo().await, Worker::new());
    let ended = worker.run(post(server.url("/a?b=c"), Body::Json(Text::new("{\"x\":1}")))).await;
    let run = "01010101-0101-0101-0101-010101010101";
    let trace = "00-01010101010101010101010101010101-0000000000000001-01";
    let expected = format!("POST\n/a?b=c\napplication/json\n{trace}\n{run}.0\nkahn\n{{\"x\":1}}");
    let body: String = serde_json::from_str(ended.output("body").unwrap()).unwrap();
    assert_eq!(body, expected);
    let own = [("Traceparent", "t"), ("Idempotency-Key", "k"), ("User-Agent", "u/1")];
    let request = post(server.url("/"), Body::Text(Text::new("é")));
    let ended = worker.run(with_headers(request, &own)).await;
    let body: String = serde_json::from_str(ended.output("body").unwrap()).unwrap();
    assert_eq!(body, "POST\n/\ntext/plain; charset=utf-8\nt\nk\nu\né");
    let ended = worker.run(get(server.url("/"))).await;
    let body: String = serde_json::from_str(ended.output("body").unwrap()).unwrap();
    assert!(body.starts_with("GET\n/\nnone\n00-0101"), "{body}");
    assert!(body.ends_with("\nnone\nkahn\n"), "{body}");
}

#[tokio::test]
async fn an_unexpected_status_is_the_cause_with_the_start_of_the_body() {
    let server = Server::start(|_, _| (StatusCode::SERVICE_UNAVAILABLE, "no more\nroom")).await;
    let worker = Worker::new();
    let ended = worker.run(get(server.url("/x?key=canary"))).await;
    assert_eq!(ended.failure().cause, Cause::http_status(503));
    let expected = format!(
        "{}?*** answered `Service Unavailable`, expected is 200-299: no more room",
        server.url("/x")
    );
    assert_eq!(&*ended.failure().message, expected);
    assert!(ended.log.contains("\nno more\nroom\n"), "{}", ended.log);
    let expect = vec![StatusRange::SUCCESS, StatusRange { from: 503, to: 503 }];
    let ended = worker.run(HttpRequest { expect, ..get(server.url("/")) }).await;
    assert_eq!(ended.output("status"), Some("503"));
    assert_eq!(ended.output("body"), Some("\"no more\\nroom\""));
}

#[tokio::test]
async fn a_body_too_long_for_outputs_is_left_out_and_the_log_says_so() {
    let server = Server::start(|request: ReceivedRequest, _| {
        let n: usize = request.uri.trim_start_matches('/').parse().unwrap();
        json(format!("\"{}\"", "x".repeat(n)))
    })
    .await;
    let worker = Worker::new();
    let ended = worker.run(get(server.url("/65000"))).await;
    assert_eq!(ended.output("json").unwrap().len(), 65002);
    let ended = worker.run(get(server.url(&format!("/{OUTPUT_BYTES_MAX}")))).await;
    assert_eq!((ended.output("status"), ended.output("json")), (Some("200"), None));
    assert!(
        ended.log.ends_with("[kahn] output `json` is left out: outputs may have 65536 bytes\n")
    );
    // Exceeds the limit of memory, but the log contains all of it.
    let n = 3 << 20;
    let ended = worker.run(get(server.url(&format!("/{n}")))).await;
    assert_eq!((ended.output("json"), ended.output("body")), (None, None));
    assert_eq!(ended.log.matches('x').count() / 1000, n / 1000);
}

#[tokio::test]
async fn a_body_that_nobody_keeps_is_not_read_to_its_end() {
    let server = Server::start(|_, _| {
        let part = || Ok::<_, std::convert::Infallible>("x".repeat(4096));
        axum::body::Body::from_stream(tokio_stream::iter(std::iter::repeat_with(part)))
    })
    .await;
    let ended = Worker::with(&["127.0.0.1"], 10_000).run(get(server.url("/"))).await;
    assert_eq!((ended.output("status"), ended.output("body")), (Some("200"), None));
    assert!(ended.log.contains("log cut after 10000 bytes"), "{}", ended.log.len());
}

#[tokio::test]
async fn redirects_are_followed_three_times_and_no_more() {
    let server = Server::start(|request: ReceivedRequest, _| {
        let n: u32 = request.uri.trim_start_matches('/').parse().unwrap();
        match n {
            0 => format!("{}", request.method).into_response(),
            n => redirect(StatusCode::FOUND, format!("/{}", n - 1)),
        }
    })
    .await;
    let worker = Worker::new();
    let ended = worker.run(post(server.url("/3"), Body::Text(Text::new("x")))).await;
    assert_eq!(ended.output("body"), Some("\"GET\""));
    assert_eq!(ended.log.matches("\n< HTTP/1.1 302 Found\n").count(), 3, "{}", ended.log);
    let ended = worker.run(get(server.url("/4"))).await;
    assert_eq!(ended.failure().cause, Cause::http_status(302));
    assert!(ended.log.contains("[kahn] at most 3 redirects are followed"), "{}", ended.log);
    let expect = vec![StatusRange { from: 302, to: 302 }];
    let ended = worker.run(HttpRequest { expect, ..get(server.url("/4")) }).await;
    assert_eq!(ended.output("status"), Some("302"));
}

#[tokio::test]
async fn credentials_are_not_in_the_log() {
    let server = Server::start(|request: ReceivedRequest, _| match request.uri.as_str() {
        "/from?key=canary" => redirect(StatusCode::FOUND, "/to?key=canary"),
        _ => {
            // They were sent nevertheless.
            let n =
                request.headers.values().filter(|v| v.to_str().unwrap().contains("canary")).count();
            (
                [("set-cookie", "session=canary")],
                format!("{n} {:?}", request.header("authorization")),
            )
                .into_response()
        }
    })
    .await;
    let secrets = [
        ("Cookie", "a=canary"),
        ("Proxy-Authorization", "Basic canary"),
        ("X-Api-Key", "canary"),
        ("X-Vault-Token", "canary"),
    ];
    let url = format!("http://user:canary@{}/from?key=canary", server.address);
    let worker = Worker::new();
    let ended = worker.run(with_headers(get(&*url), &secrets)).await;
    // `user:canary` in Base64.
    let basic = "Basic dXNlcjpjYW5hcnk=";
    assert_eq!(ended.output("body"), Some(&*format!("\"4 Some(\\\"{basic}\\\")\"")));
    assert!(ended.output("headers").unwrap().contains("session=canary"));
    let body_at = ended.log.rfind("<\n").unwrap();
    let log = &ended.log[..body_at];
    assert!(!log.contains("canary") && !log.contains("dXNlc"), "{log}");
    for line in [
        &*format!("> GET http://***@{}/from?***\n", server.address),
        "> cookie: ***\n",
        "> proxy-authorization: ***\n",
        "> x-api-key: ***\n",
        "< location: /to?***\n",
        "< set-cookie: ***\n",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
    let authorization = [("Authorization", "Bearer canary")];
    let ended = worker.run(with_headers(get(&*url), &authorization)).await;
    assert_eq!(ended.output("body"), Some("\"1 Some(\\\"Bearer canary\\\")\""));
    assert!(ended.log.contains("> authorization: ***\n"), "{}", ended.log);
}

#[tokio::test]
async fn one_connection_serves_one_attempt_after_the_other() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        for _ in 0..3 {
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
        // A second connection is never accepted.
        std::future::pending::<()>().await;
    });
    let worker = Worker::new();
    for _ in 0..3 {
        assert_eq!(worker.run(get(&*url)).await.output("body"), Some("\"ok\""));
    }
    serving.abort();
}
