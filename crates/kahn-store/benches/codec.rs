//! Benchmarks encoding and decoding changes and DAGs.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kahn_core::{Change, Submission, Then};
use kahn_model::{
    Action, BootId, DagBuilder, Name, Namespace, NewTask, Outputs, RunId, RunPolicy, TaskIx,
    Timestamp, Token, Usage, Uuid, Work, WorkerId,
};
use kahn_store::codec::{
    CodecError, decode_batch, decode_submission, encode_batch, encode_submission,
};

const NOW: u64 = 1_700_000_000_000_000;
const N_WORKERS: usize = 16;

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

fn run() -> RunId {
    RunId::new(Uuid::from_u128(0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc))
}

/// Creates a batch of one kind of change, as a busy coordinator would.
fn changes(n: u32, of: impl Fn(TaskIx, &WorkerId) -> Change) -> Vec<(Timestamp, Change)> {
    let workers: Vec<WorkerId> =
        (0..N_WORKERS).map(|at| WorkerId::new(name(&format!("worker-{at}")))).collect();
    (0..n)
        .zip(workers.iter().cycle())
        .map(|(at, worker)| {
            (Timestamp(NOW + u64::from(at / 10)), of(TaskIx(500_000 + 7 * at), worker))
        })
        .collect()
}

fn granted(task: TaskIx, worker: &WorkerId) -> Change {
    let serial = 1_000_000 + u64::from(task.0);
    Change::LeaseGranted {
        run: run(),
        task,
        number: 1,
        token: Token { epoch: 12, serial, nonce: 0x1234_5678_9abc_def0 },
        worker: worker.clone(),
        boot: BootId(0x0fed_cba9_8765_4321),
    }
}

fn started(task: TaskIx, _: &WorkerId) -> Change {
    Change::AttemptStarted { run: run(), task }
}

fn finished(task: TaskIx, _: &WorkerId) -> Change {
    Change::AttemptFinished {
        run: run(),
        task,
        outcome: Ok(Outputs::default()),
        usage: Usage {
            elapsed: Duration::from_micros(12_345),
            cpu: Duration::from_micros(2_345),
            memory_peak: 12 << 20,
            ..Usage::default()
        },
        then: Then::End,
    }
}

fn no_blobs(name: &str) -> Result<Bytes, CodecError> {
    Err(CodecError::MissingBlob(name.to_owned()))
}

type Maker = fn(TaskIx, &WorkerId) -> Change;

fn batches(c: &mut Criterion) {
    let kinds: [(&str, Maker); 3] =
        [("granted", granted), ("started", started), ("finished", finished)];
    for (kind, of) in kinds {
        for n in [1, 100, 1000] {
            let changes = changes(n, of);
            let bytes = encode_batch(&changes).payload;
            let mut group = c.benchmark_group(format!("{kind}/{n} ({} bytes)", bytes.len()));
            group.throughput(Throughput::Elements(n.into()));
            group.bench_function("encode", |b| b.iter(|| encode_batch(black_box(&changes))));
            group.bench_function("decode", |b| {
                b.iter(|| decode_batch(black_box(&bytes), no_blobs));
            });
            group.finish();
        }
    }
}

fn submission(n_tasks: usize) -> Submission {
    let mut builder = DagBuilder::new(name("layers"), RunPolicy::default());
    for at in 0..n_tasks {
        let task = NewTask::new(name(&format!("t{at}")), Work::new(Action::Noop));
        let task = builder.task(task).expect("not too many");
        for back in [1000, 1001, 1999] {
            if let Some(dependency) = at.checked_sub(back) {
                builder.after(task, TaskIx::from_index(dependency));
            }
        }
    }
    Submission {
        run: run(),
        namespace: Namespace::default(),
        dag: Arc::new(builder.build().expect("it has no cycle")),
        params: BTreeMap::new(),
        digest: [0; 16],
        labels: BTreeMap::new(),
    }
}

fn dags(c: &mut Criterion) {
    let n = 1_000_000;
    let submission = submission(n);
    let bytes = encode_submission(&submission);
    let mut group = c.benchmark_group(format!("dag of {n} ({} bytes)", bytes.len()));
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::try_from(n).unwrap_or(u64::MAX)));
    group.bench_function("encode", |b| b.iter(|| encode_submission(black_box(&submission))));
    group.bench_function("decode", |b| {
        b.iter_batched(|| bytes.clone(), |bytes| decode_submission(&bytes), BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, batches, dags);
criterion_main!(benches);
