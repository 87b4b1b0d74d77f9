//! Spans as a real collector, on a real socket, receives them.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response};

use super::*;

struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).await.unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (TelemetrySettings, mpsc::Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (tx, rx) = mpsc::channel(16);
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector(tx)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (TelemetrySettings { otlp_endpoint: Some(endpoint), ..TelemetrySettings::default() }, rx)
}

fn attempt() -> FinishedSpan {
    FinishedSpan {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent_id: Some([3; 8]),
        name: "extract".into(),
        started_at_micros: 1_000_000,
        ended_at_micros: 3_500_000,
        attributes: vec![("kahn.attempt", 2_u32.into()), ("kahn.worker", "w-1".into())],
        status: SpanStatus::Error("exit code 1".to_owned()),
    }
}

#[tokio::test]
async fn a_finished_span_reaches_the_collector_as_it_was_recorded() {
    let (settings, mut received) = collector().await;
    let traces = Traces::start("kahn-coordinator", &settings).unwrap();
    assert!(traces.is_on());
    traces.record(attempt());
    traces.shutdown().await.unwrap();

    let mut resource = received.recv().await.unwrap().resource_spans.remove(0);
    let described = format!("{:?}", resource.resource.take().unwrap());
    assert!(described.contains("kahn-coordinator"), "{described}");
    let span = resource.scope_spans.remove(0).spans.remove(0);
    assert_eq!((span.trace_id, span.span_id), (vec![1; 16], vec![2; 8]));
    assert_eq!((span.parent_span_id, span.name.as_str()), (vec![3; 8], "extract"));
    assert_eq!(span.start_time_unix_nano, 1_000_000_000);
    assert_eq!(span.end_time_unix_nano, 3_500_000_000);
    let keys: Vec<_> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["kahn.attempt", "kahn.worker"]);
    assert_eq!(span.status.unwrap().message, "exit code 1");
}

#[tokio::test]
async fn spans_without_ids_are_dropped() {
    let (settings, mut received) = collector().await;
    let traces = Traces::start("kahn-coordinator", &settings).unwrap();
    traces.record(FinishedSpan { trace_id: [0; 16], ..attempt() });
    traces.record(FinishedSpan { span_id: [0; 8], ..attempt() });
    traces.record(attempt());
    traces.shutdown().await.unwrap();
    let request = received.recv().await.unwrap();
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = TelemetrySettings {
        otlp_endpoint: Some(format!("http://{address}")),
        otlp_timeout: Duration::from_millis(200),
        ..TelemetrySettings::default()
    };
    let traces = Traces::start("kahn-coordinator", &settings).unwrap();
    traces.record(attempt());
    assert!(traces.shutdown().await.is_err());
    traces.record(attempt());
}

#[tokio::test]
async fn without_a_collector_nothing_is_recorded() {
    let traces = Traces::start("kahn-coordinator", &TelemetrySettings::default()).unwrap();
    assert!(!traces.is_on());
    traces.record(attempt());
    traces.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_not_one_is_refused_by_name() {
    let settings = TelemetrySettings {
        otlp_endpoint: Some("not an address".to_owned()),
        ..TelemetrySettings::default()
    };
    let error = Traces::start("kahn-coordinator", &settings).unwrap_err();
    assert!(error.to_string().contains("not an address"), "{error}");
}

#[test]
fn traceparent_is_written_as_w3c_wants_it() {
    let mut trace_id = [0; 16];
    trace_id[15] = 0xab;
    assert_eq!(
        traceparent(trace_id, [0x0f; 8]),
        "00-000000000000000000000000000000ab-0f0f0f0f0f0f0f0f-01"
    );
}
