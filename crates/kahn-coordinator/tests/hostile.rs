//! Hostile clients and workers with a real server on a free port: each is refused with the reason,
//! and an honest client is served afterwards.

#[cfg(test)]
#[path = "hostile/exports.rs"]
mod exports;
#[cfg(test)]
#[path = "hostile/support.rs"]
mod support;

use std::fmt::Write as _;

use kahn_proto::api::runs_client::RunsClient;
use kahn_proto::api::{self, submit_request::Part};
use kahn_proto::storage::Token;
use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_proto::worker::{Heartbeat, Hello, Reports, WorkerMessage, worker_message};
use kahn_proto::worker::{LeaseId, LogPiece, Report};
use support::{Server, header, headers_of, piece};
use tonic::Code;

const DAG: &str = "tasks: {a: {noop: true}}";

#[tokio::test]
async fn a_message_over_its_size_is_refused() {
    let server = Server::start().await;
    // Decoding is limited to 4 MiB, and the document has its own limit.
    let large = vec![b'#'; 5 << 20];
    let refused = server.submit(vec![header(), piece(large)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("coordinator.limits.message_bytes"), "{refused}");
    assert!(refused.message().contains("4194304 bytes"), "{refused}");
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn a_document_over_its_size_is_refused_however_it_is_cut() {
    let server = Server::start().await;
    let pieces =
        (0..support::DOCUMENT_BYTES_MAX / (1 << 20) + 1).map(|_| piece(vec![b'#'; 1 << 20]));
    let parts = std::iter::once(header()).chain(pieces).collect();
    let refused = server.submit(parts).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("larger than the 8388608 bytes allowed"), "{refused}");
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn a_compressed_message_is_refused_before_it_is_expanded() {
    let server = Server::start().await;
    let mut client = RunsClient::new(server.channel().await);
    let mut request = server.as_client(api::GetRequest { run: "x".into() });
    request.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    // The server does not support compression, so decompression bombs are not possible.
    assert_eq!(client.get(request).await.unwrap_err().code(), Code::Unimplemented);
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn parts_out_of_order_are_refused() {
    let server = Server::start().await;
    for parts in [
        vec![],
        vec![piece(DAG.into())],
        vec![header(), header()],
        vec![api::SubmitRequest { part: None }],
    ] {
        let refused = server.submit(parts.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{parts:?}");
    }
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn headers_that_pass_a_limit_are_refused() {
    let server = Server::start().await;
    let labels = (0..129).map(|at| (format!("l{at}"), String::new())).collect();
    for (found, what) in [
        (api::SubmitHeader { namespace: "a/b".into(), ..Default::default() }, "namespace"),
        (api::SubmitHeader { namespace: "x".repeat(129), ..Default::default() }, "namespace"),
        (
            api::SubmitHeader { idempotency_key: "x".repeat(257), ..Default::default() },
            "idempotency_key",
        ),
        (api::SubmitHeader { labels, ..Default::default() }, "labels"),
        (
            api::SubmitHeader {
                params: [("no".to_owned(), String::new())].into(),
                ..Default::default()
            },
            "parameter",
        ),
    ] {
        let part = api::SubmitRequest { part: Some(Part::Header(found)) };
        let refused = server.submit(vec![part, piece(DAG.into())]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(what), "{refused}");
    }
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn every_limit_of_a_dag_holds_for_one_that_comes_over_grpc() {
    let server = Server::start().await;
    let many = |n: usize, entry: &dyn Fn(usize) -> String| {
        (0..n).map(entry).collect::<Vec<_>>().join(", ")
    };
    let list = many(1001, &|at| at.to_string());
    let task = |field: String| format!("tasks: {{a: {{run: x, {field}}}}}");
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let _ =
            writeln!(laughs, "a{level}: &a{level} [{}]", many(9, &|_| format!("*a{}", level - 1)));
    }
    for (source, what) in [
        (format!("tasks: {{{}: {{noop: true}}}}", "x".repeat(129)), "at most 128 bytes"),
        (
            format!("tasks: {{a: {{noop: true, matrix: {{v: [{list}], w: [{list}]}}}}}}"),
            "combinations",
        ),
        ("tasks: {a: {noop: true, needs: [a]}}".into(), "needs itself"),
        (
            "tasks: {a: {noop: true, needs: [b]}, b: {noop: true, needs: [a]}}".into(),
            "dependency cycle",
        ),
        (task(format!("env: {{{}}}", many(513, &|at| format!("V{at}: x")))), "at most 512"),
        (task(format!("env: {{V: {}}}", "x".repeat(32_769))), "at most 32768"),
        (task("retry: {max_attempts: 1001}".into()), "1 to 1000"),
        (task("timeout: 367d".into()), "366 days"),
        (format!("tasks: {{a: {{run: {}}}}}", "x".repeat(131_073)), "at most 131072"),
        (laughs, "the aliases (`*name`) stand for more than"),
        ("[".repeat(100_000), ""),
        ("tasks: {a: {noop: true}, a: {noop: true}}".into(), "duplicate"),
    ] {
        let refused = server.submit(vec![header(), piece(source.into())]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}");
        assert!(refused.message().contains(what), "{what}: {}", refused.message());
    }
    let utf8 = server.submit(vec![header(), piece(b"tasks: \xff".to_vec())]).await.unwrap_err();
    assert!(utf8.message().contains("not UTF-8"), "{utf8}");
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn what_the_compiler_lets_through_the_gate_lets_through() {
    let server = Server::start().await;
    let list = (0..400).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
    // With the names of all instances, the condition exceeds the maximum length of an expression.
    let source = format!(
        "tasks:\n  a: {{noop: true, matrix: {{v: [{list}]}}}}\n  b:\n    needs: [a]\n    \
         if: tasks.a.exists(i, i.exit_code == 0)\n    exec: [b, '${{{{ tasks.a.size() }}}}']\n"
    );
    server.submit(vec![header(), piece(source.into())]).await.unwrap();
}

#[tokio::test]
async fn streams_beyond_the_most_wait_and_do_not_harm() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let open = (0..support::STREAMS_MAX * 2).map(|_| {
        let mut client = SessionsClient::new(channel.clone());
        let request = server.as_worker(tokio_stream::pending());
        tokio::spawn(async move { client.attach(request).await.map(tonic::Response::into_inner) })
    });
    let open: Vec<_> = open.collect();
    // Another connection has its own limit.
    server.serves_honest_clients().await;
    assert!(open.iter().filter(|stream| stream.is_finished()).count() <= support::STREAMS_MAX);
    open.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_worker_that_breaks_the_protocol_is_told_so() {
    let server = Server::start().await;
    let message = |message| WorkerMessage { message: Some(message) };
    let hello = || Hello {
        protocol: 1,
        worker: "w1".into(),
        capacity: Some(Default::default()),
        leases_max: 1,
        ..Hello::default()
    };
    let said = |hello| vec![message(worker_message::Message::Hello(hello))];
    let behind = |next| vec![message(worker_message::Message::Hello(hello())), message(next)];
    let lease = LeaseId { run: vec![1; 15].into(), ..LeaseId::default() };
    let report = Report { lease: Some(lease), kind: None };
    let reports = worker_message::Message::Reports(Reports { reports: vec![report] });
    let labels = (0..129).map(|at| (format!("l{at}"), String::new())).collect();
    for (messages, what) in [
        (vec![message(worker_message::Message::Heartbeat(Heartbeat { number: 1 }))], "hello"),
        (vec![WorkerMessage { message: None }], "hello"),
        (behind(worker_message::Message::Hello(hello())), "hello comes first and once"),
        (behind(reports), "lease.run"),
        (said(Hello { protocol: 2, ..hello() }), "version 1"),
        (said(Hello { worker: "../w".into(), ..hello() }), "hello.worker"),
        (said(Hello { capacity: None, ..hello() }), "hello.capacity"),
        (said(Hello { labels, ..hello() }), "more labels than the 128 allowed"),
    ] {
        let status = server.attach(messages).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert!(status.message().contains(what), "{what}: {status}");
    }
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn headers_over_their_size_are_refused() {
    let server = Server::start().await;
    let mut client = RunsClient::new(server.channel().await);
    let mut request = server.as_client(api::GetRequest { run: "x".into() });
    headers_of(&mut request, 20);
    assert!(client.get(request).await.is_err());
    server.serves_honest_clients().await;
}

#[tokio::test]
async fn output_is_taken_under_the_lease_of_its_attempt_alone() {
    let server = Server::start().await;
    let holding = server.lease_of_one_attempt().await;
    let (run, lease) = (&holding.run, &holding.lease);
    let other = |change: &dyn Fn(&mut LeaseId)| {
        let mut other = lease.clone();
        change(&mut other);
        other
    };
    let token = lease.token.unwrap();
    let (serial, nonce) = (token.serial + 1, token.nonce ^ 1);
    let forged = |token: Token| other(&|lease| lease.token = Some(token));
    let piece = |lease, text: &'static str, is_sealed| {
        let data = text.as_bytes().into();
        LogPiece { lease: Some(lease), offset: 0, data, is_sealed }
    };
    for (lease, what) in [
        (other(&|lease| lease.run = vec![7; 16].into()), "no such run"),
        (other(&|lease| lease.task = 9), "no such task"),
        (other(&|lease| lease.number = 2), "no such attempt"),
        (other(&|lease| lease.number = 0), "no such attempt"),
        (forged(Token { serial, ..token }), "another lease is in force"),
        (forged(Token { nonce, ..token }), "another lease is in force"),
    ] {
        // The stream continues, since other attempts may use it.
        let receipts = server.ship(vec![piece(lease, "forged", true); 2]).await;
        assert_eq!(receipts.len(), 2);
        for receipt in receipts {
            assert!(receipt.refusal.contains(what), "{what}: {receipt:?}");
            assert_eq!((receipt.offset, receipt.is_sealed), (0, false));
        }
    }
    let honest = piece(lease.clone(), "honest\n", false);
    assert_eq!(server.ship(vec![honest]).await[0].offset, 7);
    assert_eq!(server.logs(run, "a").await, "honest\n");

    // After the attempt has ended, its log still belongs to its lease.
    server.finish(&holding, false).await;
    let late = LogPiece { offset: 7, ..piece(lease.clone(), "late\n", true) };
    let forged = forged(Token { serial, ..token });
    let forged = LogPiece { offset: 7, ..piece(forged, "forged\n", true) };
    let receipts = server.ship(vec![forged, late]).await;
    assert!(receipts[0].refusal.contains("under another lease"), "{receipts:?}");
    assert!(receipts[1].is_sealed, "{receipts:?}");
    assert_eq!(server.logs(run, "a").await, "honest\nlate\n");
}

#[tokio::test]
async fn whoever_reads_a_finished_attempt_waits_for_output_that_is_late() {
    let server = Server::start().await;
    let holding = server.lease_of_one_attempt().await;
    server.finish(&holding, true).await;
    let reading = server.read_logs(&holding.run, "a").await;
    for (offset, text, is_sealed) in [(0, "begin ", false), (6, "end", true)] {
        let (lease, data) = (Some(holding.lease.clone()), text.as_bytes().into());
        server.ship(vec![LogPiece { lease, offset, data, is_sealed }]).await;
    }
    assert_eq!(support::text_of(reading).await, "begin end");

    let silent = server.lease_of_one_attempt().await;
    server.finish(&silent, false).await;
    assert_eq!(server.logs(&silent.run, "a").await, "");
}
