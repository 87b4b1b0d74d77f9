//! What was added to format 1 after its first golden files were written: further actions, secrets,
//! cordoned workers, messages, and what attempts have used.

use std::sync::Arc;
use std::time::Duration;

use kahn_core::{Change, Messages, Snapshot, Spent, Submission, Then, Verdict};
use kahn_model::{
    Action, Body, Cause, CauseKind, Condition, Container, DagBuilder, Failure, FunctionCall,
    HttpRequest, Mount, Name, Namespace, NewTask, Outputs, Pod, PodOptions, PodVolume, Polling,
    Port, PullPolicy, PythonCall, RunId, RunPolicy, SecretTarget, SecretUse, StatusRange,
    TaintEffect, TaskIx, Text, Timestamp, Toleration, Usage, Uuid, VolumeSource, Work, WorkerId,
};
use kahn_store::codec::{self, CodecError};

use super::golden::{bundle, snapshot_of, stored, unbundle};

#[test]
fn batches_with_everything_that_was_added_still_load() {
    let before = changes();
    let bytes = stored("batch-v1-later.bin", || codec::encode_batch(&before).payload);
    let no_blobs = |name: &str| Err(CodecError::MissingBlob(name.to_owned()));
    assert_eq!(codec::decode_batch(&bytes, no_blobs), Ok(before));
}

#[test]
fn checkpoints_with_everything_that_was_added_still_load() {
    let before = snapshot();
    let bytes = stored("checkpoint-v1-later.bin", || bundle(codec::encode_snapshot(&before)));
    let parts = unbundle(bytes);
    let fetch = |_: &str| parts.get(1).cloned().ok_or(CodecError::MissingBlob(String::new()));
    assert_eq!(codec::decode_snapshot(&parts[0], fetch), Ok(before));
}

#[test]
fn batches_with_pods_still_load() {
    let run = submission().run;
    let verdict = Verdict::Run(Some(Arc::new(Work::new(Action::Pod(Box::new(pod()))))));
    let change = Change::TaskEvaluated { run, task: TaskIx(1), verdict };
    let before = vec![(Timestamp(1_800_000_000_000_000), change)];
    let bytes = stored("batch-v1-pods.bin", || codec::encode_batch(&before).payload);
    let no_blobs = |name: &str| Err(CodecError::MissingBlob(name.to_owned()));
    assert_eq!(codec::decode_batch(&bytes, no_blobs), Ok(before));
}

fn pod() -> Pod {
    let pair = |name: &str, value: &str| (name.into(), value.into());
    let volume = |source, is_writable| PodVolume { source, target: "/x".into(), is_writable };
    Pod {
        container: Container { image: Text::new("alpine:3"), ..Container::default() },
        options: PodOptions {
            service_account: Some("account".into()),
            node_selector: vec![pair("disk", "ssd")],
            tolerations: vec![
                Toleration { key: "".into(), value: None, effect: None },
                Toleration {
                    key: "spot".into(),
                    value: Some("yes".into()),
                    effect: Some(TaintEffect::NoExecute),
                },
            ],
            labels: vec![pair("team", "a")],
            annotations: vec![pair("note", "b")],
            volumes: vec![
                volume(VolumeSource::Claim("claim".into()), true),
                volume(VolumeSource::ConfigMap("map".into()), false),
                volume(VolumeSource::Secret("secret".into()), false),
                volume(VolumeSource::Empty, true),
            ],
            image_pull_secrets: vec!["registry".into()],
            priority_class: Some("low".into()),
            runtime_class: Some("gvisor".into()),
        },
    }
}

fn works() -> [Work; 4] {
    let input = || Text::new("{\"day\": \"${{ params.day }}\"}");
    let function = FunctionCall { name: "resize".into(), input: input() };
    let python = PythonCall {
        function: "jobs.etl:load".into(),
        input: input(),
        interpreter: Some(Text::new("/opt/venv/bin/python")),
    };
    let container = Container {
        image: Text::new("alpine:3"),
        pull: PullPolicy::Always,
        command: vec![Text::new("sh")],
        args: vec![Text::new("-c"), Text::new("true")],
        user: Some("1000:1000".into()),
        mounts: vec![Mount { source: Text::new("/data"), target: "/in".into(), is_writable: true }],
        ports: vec![Port { container: 80, host: 8080 }],
    };
    let http = HttpRequest {
        method: "POST".into(),
        url: Text::new("https://example.org/jobs"),
        headers: vec![("accept".into(), Text::new("application/json"))],
        body: Body::Json(input()),
        expect: vec![StatusRange::SUCCESS],
        timeout: Duration::from_secs(30),
        polling: Some(Polling {
            until: Condition("body.done".into()),
            every: Duration::from_secs(5),
        }),
    };
    let mut with_secret = Work::new(Action::Function(Box::new(function)));
    with_secret.secrets = vec![SecretUse {
        target: SecretTarget::Variable("TOKEN".into()),
        prefix: "Bearer ".into(),
        secret: Name::new("api-token").unwrap(),
    }];
    [
        with_secret,
        Work::new(Action::Python(Box::new(python))),
        Work::new(Action::Container(Box::new(container))),
        Work::new(Action::Http(Box::new(http))),
    ]
}

fn submission() -> Submission {
    let name = |text: &str| Name::new(text).unwrap();
    let mut builder = DagBuilder::new(name("later"), RunPolicy::default());
    for (at, work) in works().into_iter().enumerate() {
        builder.task(NewTask::new(name(&format!("t{at}")), work)).unwrap();
    }
    Submission {
        run: RunId::new(Uuid::from_u128(43)),
        namespace: Namespace::new(name("team")),
        dag: Arc::new(builder.build().unwrap()),
        params: Default::default(),
        digest: [7; 16],
        labels: Default::default(),
    }
}

fn failure() -> Failure {
    Failure::new(Cause::of(CauseKind::Exception), "no such row").raised("builtins.KeyError")
}

fn usage() -> Usage {
    Usage { read_bytes: 3 << 20, written_bytes: 5 << 20, ..Usage::default() }
}

fn changes() -> Vec<(Timestamp, Change)> {
    let (submission, task) = (submission(), TaskIx(1));
    let run = submission.run;
    let worker = "w1".parse::<WorkerId>().unwrap();
    let cordoned = |is_cordoned| Change::WorkerCordoned { worker: worker.clone(), is_cordoned };
    let rendered =
        |work| Change::TaskEvaluated { run, task, verdict: Verdict::Run(Some(Arc::new(work))) };
    let finished =
        |outcome, then| Change::AttemptFinished { run, task, outcome, usage: usage(), then };
    let mut changes = vec![Change::RunSubmitted(Arc::new(submission))];
    changes.extend(works().map(rendered));
    changes.extend([
        finished(Err(failure()), Then::Retry { after: Duration::from_secs(1) }),
        finished(Ok(Outputs::default()), Then::End),
        cordoned(true),
        cordoned(false),
    ]);
    let at = |(at, change): (u64, Change)| (Timestamp(1_800_000_000_000_000 + at), change);
    (0..).zip(changes).map(at).collect()
}

fn snapshot() -> Snapshot {
    let mut snapshot = snapshot_of(Arc::new(submission()));
    let run = &mut snapshot.runs[0];
    run.spent = vec![Spent {
        record: 1,
        elapsed_micros: 1_500_000,
        cpu_micros: 900_000,
        memory_peak: 64 << 20,
        read_bytes: 3 << 20,
        written_bytes: 5 << 20,
    }];
    run.messages = Messages::default();
    run.messages.push(1, "no such row");
    run.failures.insert(TaskIx(1), failure());
    snapshot.cordoned = vec!["w1".parse().unwrap()];
    snapshot
}
