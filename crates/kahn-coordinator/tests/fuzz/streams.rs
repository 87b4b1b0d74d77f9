//! Worker messages for [`kahn_coordinator::fuzz::worker_stream`].

use kahn_proto::storage::{
    CauseKind, Failure, NamedAmount, NamedValue, Outputs, Resources, Token, Usage,
};
use kahn_proto::worker::{
    Admission, Draining, Finished, Heartbeat, Held, Hello, LeaseId, Pressure, PressureKind, Report,
    Reports, Returned, Started, WorkerMessage, report, worker_message,
};
use prost::Message as _;

/// Encodes the messages, each with its length.
pub(crate) fn encoded(messages: &[WorkerMessage]) -> Vec<u8> {
    messages.iter().flat_map(WorkerMessage::encode_length_delimited_to_vec).collect()
}

/// Returns whole streams, and each of their messages alone after a hello.
pub(crate) fn corpus() -> Vec<Vec<u8>> {
    let whole = [successful_run(), failing_run(), extremes()];
    let alone = whole.iter().flatten().map(|message| vec![hello(2, vec![]), message.clone()]);
    whole.iter().cloned().chain(alone).map(|messages| encoded(&messages)).collect()
}

fn message(message: worker_message::Message) -> WorkerMessage {
    WorkerMessage { message: Some(message) }
}

/// Returns the lease for attempt `number` of a task that was granted with serial `serial`.
fn lease(task: u32, number: u32, serial: u64) -> LeaseId {
    let token = Token { epoch: 1, serial, nonce: 7 };
    LeaseId { run: vec![0; 16].into(), task, number, token: Some(token) }
}

fn hello_with(boot: u64, held: Vec<Held>, unacknowledged: Vec<Report>) -> WorkerMessage {
    message(worker_message::Message::Hello(Hello {
        protocol: 1,
        worker: "w1".into(),
        boot,
        capacity: Some(Resources {
            cpu_milli: 4000,
            memory_bytes: 8 << 30,
            named: vec![NamedAmount { name: "license".into(), amount_milli: 1000 }],
            ..Resources::default()
        }),
        labels: [("zone".to_owned(), "eu".to_owned())].into(),
        executors: vec!["builtin".into(), "process".into()],
        leases_max: 8,
        held,
        unacknowledged,
        is_draining: false,
        version: "1".into(),
        admission: None,
        unstored_logs: Vec::new(),
    }))
}

fn accepts(share_permille: u32, measured_permille: u32, age_micros: u64) -> WorkerMessage {
    let kind = PressureKind::Memory.into();
    let pressure = Some(Pressure { kind, measured_permille, limit_permille: 100 });
    let admission = Admission { share_permille, pressure, age_micros };
    message(worker_message::Message::Admission(admission))
}

fn hello(boot: u64, held: Vec<Held>) -> WorkerMessage {
    hello_with(boot, held, Vec::new())
}

fn reports(all: Vec<Report>) -> WorkerMessage {
    message(worker_message::Message::Reports(Reports { reports: all }))
}

fn heartbeat(millis: u64) -> WorkerMessage {
    message(worker_message::Message::Heartbeat(Heartbeat { number: millis }))
}

fn started(lease: LeaseId) -> Report {
    Report { lease: Some(lease), kind: Some(report::Kind::Started(Started {})) }
}

fn returned(lease: LeaseId) -> Report {
    Report { lease: Some(lease), kind: Some(report::Kind::Returned(Returned {})) }
}

fn finished(lease: LeaseId, failure: Option<CauseKind>) -> Report {
    let outputs = [("n", "3"), ("s", "\"text\""), ("l", "[1, {\"a\": null}]")]
        .map(|(name, json)| NamedValue { name: name.into(), json: json.into() });
    let usage = Usage {
        elapsed_nanos: 1_500_000,
        cpu_nanos: 9,
        memory_peak: 1 << 20,
        read_bytes: 1,
        written_bytes: 2,
    };
    let kind = report::Kind::Finished(Finished {
        failure: failure.map(|cause| Failure {
            cause: cause.into(),
            code: 3,
            message: "it broke".into(),
            exception: "app.Broken".into(),
        }),
        outputs: Some(Outputs { values: outputs.to_vec() }),
        usage: Some(usage),
        is_output_late: false,
    });
    Report { lease: Some(lease), kind: Some(kind) }
}

/// Tasks by index: a 0, b 1, c 2, d 3, e 4.
pub(crate) fn successful_run() -> Vec<WorkerMessage> {
    vec![
        hello(1, vec![]),
        reports(vec![started(lease(0, 1, 1)), finished(lease(0, 1, 1), None)]),
        heartbeat(10),
        reports(vec![started(lease(1, 1, 3)), started(lease(2, 1, 2))]),
        reports(vec![finished(lease(2, 1, 2), None), finished(lease(1, 1, 3), None)]),
        reports(vec![started(lease(3, 1, 4)), finished(lease(3, 1, 4), None)]),
        reports(vec![finished(lease(4, 1, 5), None)]),
        message(worker_message::Message::Draining(Draining {})),
    ]
}

pub(crate) fn failing_run() -> Vec<WorkerMessage> {
    let held = |lease, is_started| Held { lease: Some(lease), is_started };
    vec![
        hello(1, vec![]),
        reports(vec![started(lease(0, 1, 1)), finished(lease(0, 1, 1), None)]),
        reports(vec![started(lease(1, 1, 3)), returned(lease(2, 1, 2))]),
        reports(vec![finished(lease(1, 1, 3), Some(CauseKind::ExitCode))]),
        heartbeat(2_000),
        // The same worker reconnects with what it holds, and repeats a report.
        hello_with(
            1,
            vec![
                held(lease(1, 2, 4), true),
                held(lease(2, 2, 5), false),
                held(lease(9, 1, 9), true),
            ],
            vec![finished(lease(0, 1, 1), None)],
        ),
        reports(vec![finished(lease(1, 2, 5), Some(CauseKind::OutOfMemory))]),
        heartbeat(70_000),
        // Another boot, which holds nothing.
        hello(2, vec![]),
        heartbeat(3_600_000),
        reports(vec![finished(lease(1, 3, 6), None), finished(lease(2, 3, 7), None)]),
        heartbeat(60_000),
        accepts(300, 230, 1_000),
        heartbeat(10),
        accepts(1000, 0, 0),
    ]
}

/// Numbers at both ends of their ranges. Mutations rarely produce them, since a longer number
/// changes the lengths of all enclosing messages.
pub(crate) fn extremes() -> Vec<WorkerMessage> {
    let most = Resources {
        cpu_milli: u64::MAX,
        memory_bytes: u64::MAX,
        gpu_milli: u64::MAX,
        disk_rate: u64::MAX,
        network_rate: u64::MAX,
        named: vec![NamedAmount { name: "license".into(), amount_milli: u64::MAX }],
    };
    let mut out = Vec::new();
    for (capacity, leases_max) in [(most, u32::MAX), (Resources::default(), 0)] {
        out.push(message(worker_message::Message::Hello(Hello {
            protocol: 1,
            worker: "w1".into(),
            boot: u64::MAX,
            capacity: Some(capacity),
            executors: vec!["builtin".into(), "process".into(), "no-such".into()],
            leases_max,
            ..Hello::default()
        })));
        out.push(reports(vec![started(lease(0, 1, 1)), finished(lease(0, 1, 1), None)]));
        for (task, number, serial) in
            [(u32::MAX, u32::MAX, u64::MAX), (0, 0, 0), (1, u32::MAX, 3), (u32::MAX, 1, 2)]
        {
            out.push(reports(vec![
                started(lease(task, number, serial)),
                returned(lease(task, number, serial)),
                finished(lease(task, number, serial), Some(CauseKind::Signal)),
            ]));
        }
        for serial in 1..4 {
            let mut report = finished(lease(1, 1, serial), Some(CauseKind::OutOfMemory));
            if let Some(report::Kind::Finished(finished)) = &mut report.kind {
                let u64_max = u64::MAX;
                finished.usage = Some(Usage {
                    elapsed_nanos: u64_max,
                    cpu_nanos: u64_max,
                    memory_peak: u64_max,
                    read_bytes: u64_max,
                    written_bytes: u64_max,
                });
                finished.failure = Some(Failure {
                    cause: CauseKind::OutOfMemory.into(),
                    code: i32::MIN,
                    message: "\u{0}ä".repeat(4096),
                    exception: "\u{0}ä".repeat(4096),
                });
            }
            out.push(reports(vec![started(lease(1, 1, serial)), report]));
        }
        out.push(heartbeat(u64::MAX));
        out.push(heartbeat(0));
    }
    out
}
