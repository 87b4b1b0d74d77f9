//! Bytes written by released versions, which every later version must read.
//!
//! `KAHN_BLESS=1 cargo test -p kahn-store --test codec golden` writes the files again with this
//! version. This is only correct while no version that writes the format has been released.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kahn_core::{
    ArchiveRef, ArchivedRun, CellSnapshot, Change, LeaseSnapshot, Record, RecordKind, RunSnapshot,
    Snapshot, Submission, Then, Verdict,
};
use kahn_model::{
    Action, BootId, Cause, CauseKind, CauseSet, Circuit, ConcurrencyKey, Condition, DagBuilder,
    DependencyKind, Failure, FailurePolicy, LabelRule, Name, Namespace, NewTask, Outputs, Profile,
    Resource, Resources, RunId, RunPolicy, RunState, Selector, Shell, TaskIx, TaskState, Text,
    Timestamp, Token, Trigger, Usage, Uuid, Value, When, Work, WorkerId,
};
use kahn_store::codec::{self, CodecError};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Returns the stored bytes, or those of this version if the files are being written again.
pub(crate) fn stored(name: &str, now: impl FnOnce() -> Bytes) -> Bytes {
    if std::env::var_os("KAHN_BLESS").is_some() {
        std::fs::write(path(name), now()).unwrap();
    }
    Bytes::from(std::fs::read(path(name)).unwrap())
}

/// Joins a document and its blobs, which are few and small here, in one file.
pub(crate) fn bundle(encoded: codec::Encoded) -> Bytes {
    let mut out = Vec::new();
    let blobs = encoded.blobs.into_iter().map(|(_, bytes)| bytes);
    for part in std::iter::once(encoded.payload).chain(blobs) {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
        out.extend_from_slice(&part);
    }
    out.into()
}

pub(crate) fn unbundle(mut bytes: Bytes) -> Vec<Bytes> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.split_to(4);
        let length = u32::from_le_bytes(length.as_ref().try_into().unwrap());
        parts.push(bytes.split_to(usize::try_from(length).unwrap()));
    }
    parts
}

#[test]
fn batches_of_format_1_still_load() {
    let before = changes();
    let bytes = stored("batch-v1.bin", || codec::encode_batch(&before).payload);
    let no_blobs = |name: &str| Err(CodecError::MissingBlob(name.to_owned()));
    assert_eq!(codec::decode_batch(&bytes, no_blobs), Ok(before));
}

fn check_checkpoint(name: &str, before: Snapshot) {
    let parts = unbundle(stored(name, || bundle(codec::encode_snapshot(&before))));
    let names = codec::snapshot_blob_names(&parts[0]).unwrap();
    assert_eq!((names.len(), parts.len()), (1, 2));
    let fetch = |_: &str| Ok(parts[1].clone());
    assert_eq!(codec::decode_snapshot(&parts[0], fetch), Ok(before));
}

#[test]
fn checkpoints_of_format_1_still_load() {
    check_checkpoint("checkpoint-v1.bin", snapshot_of(Arc::new(submission())));
}

#[test]
fn batches_that_archive_and_restore_still_load() {
    let before = archiving_changes();
    let bytes = stored("batch-archive-v1.bin", || bundle(codec::encode_batch(&before)));
    let parts = unbundle(bytes);
    assert_eq!((codec::blob_names(&parts[0]).unwrap().len(), parts.len()), (1, 2));
    let fetch = |_: &str| Ok(parts[1].clone());
    assert_eq!(codec::decode_batch(&parts[0], fetch), Ok(before));
}

#[test]
fn checkpoints_of_format_2_still_load() {
    let mut before = snapshot_of(Arc::new(submission()));
    before.archived = vec![archived_run(&before.runs.remove(0))];
    check_checkpoint("checkpoint-v2.bin", before);
}

#[test]
fn archives_of_format_1_still_load() {
    let before = snapshot_of(Arc::new(submission())).runs.remove(0);
    let bytes = stored("archive-v1.bin", || codec::encode_archive(&before).1);
    // What it was when the file was written.
    let digest = 0x268c_bfbd_772f_d0a3_45c5_676f_5d63_e7ea_u128.to_be_bytes();
    let archive = ArchiveRef { bytes: u64::try_from(bytes.len()).unwrap(), digest };
    assert_eq!(codec::decode_archive(archive, &bytes), Ok(before));
}

fn archiving_changes() -> Vec<(Timestamp, Change)> {
    let restored = snapshot_of(Arc::new(submission())).runs.remove(0);
    let run = restored.submission.run;
    let archive = ArchiveRef { bytes: 4096, digest: [3; 16] };
    vec![
        (Timestamp(1_700_000_000_000_000), Change::RunArchived { run, archive }),
        (Timestamp(1_700_000_000_000_001), Change::RunRestored(Arc::new(restored))),
    ]
}

/// Returns the archived form of a run.
pub(crate) fn archived_run(run: &RunSnapshot) -> ArchivedRun {
    let mut archived =
        ArchivedRun::new(&run.summary(), ArchiveRef { bytes: 4096, digest: [3; 16] });
    archived.finished_at = Some(Timestamp(1_700_000_000_000_009));
    archived
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn profile() -> Profile {
    let mut profile = Profile {
        resources: "cpu=2 memory=512Mi gpu=1".parse::<Resources>().unwrap(),
        selector: Selector {
            required: vec![LabelRule::In { key: "zone".into(), values: vec!["eu".into()] }],
            preferred: vec![LabelRule::Absent { key: "spot".into() }],
        },
        priority: -3,
        concurrency: vec![ConcurrencyKey { key: name("db"), limit: 4 }],
        circuit: Some(Circuit {
            key: name("api"),
            failures: 5,
            cool_down: Duration::from_secs(30),
        }),
        ..Profile::default()
    };
    profile.resources.set(&Resource::Named(name("license")), 1000);
    profile.retry.max_attempts = 4;
    profile.retry.on = CauseSet::EMPTY.with(CauseKind::ExitCode).with(CauseKind::OutOfMemory);
    profile.timeouts.run = Some(Duration::from_secs(60));
    profile
}

fn works() -> [Work; 4] {
    let mut exec =
        Work::new(Action::Exec { argv: vec![Text::new("python"), Text::new("${{ params.day }}")] });
    exec.env.push(("A".into(), Text::new("b")));
    exec.working_dir = Some(Text::new("/data"));
    [
        Work::new(Action::Run { script: "echo hello".into(), shell: Shell::Bash }),
        exec,
        Work::new(Action::Sleep { duration: Duration::from_millis(10) }),
        Work::new(Action::Noop),
    ]
}

fn submission() -> Submission {
    let policy = RunPolicy {
        on_failure: FailurePolicy::MaxFailures(3),
        max_parallel: Some(10),
        timeout: Some(Duration::from_secs(3600)),
        priority: 7,
    };
    let mut builder = DagBuilder::new(name("nightly"), policy);
    for (at, work) in works().into_iter().enumerate() {
        let mut task = NewTask::new(name(&format!("t{at}")), work);
        // The default for retries when the files were written.
        task.profile.retry.on = CauseSet::from_bits(0b11_0111);
        if at == 1 {
            task.profile = profile();
            task.trigger = Trigger::AllDone;
            task.condition = Some(Condition("params.day != ''".into()));
            task.estimate = Some(Duration::from_secs(5));
        }
        builder.task(task).unwrap();
    }
    // Declared from last to first, which is visible in the order of the dependents.
    builder.after(TaskIx(3), TaskIx(0));
    let timeout = Some(Duration::from_secs(9));
    builder.depends(TaskIx(2), TaskIx(0), When::Completed, DependencyKind::Optional, timeout);
    builder.after(TaskIx(1), TaskIx(0));
    Submission {
        run: RunId::new(Uuid::from_u128(42)),
        namespace: Namespace::new(name("team")),
        dag: Arc::new(builder.build().unwrap()),
        params: BTreeMap::from([("day".into(), Value::from_json("\"2026-01-01\""))]),
        digest: [9; 16],
        labels: BTreeMap::from([("owner".into(), "ops".into())]),
    }
}

fn failure() -> Failure {
    Failure::new(Cause::exit_code(2), "it broke")
}

fn usage() -> Usage {
    let elapsed = Duration::from_millis(1500);
    Usage {
        elapsed,
        cpu: Duration::from_millis(900),
        memory_peak: 64 << 20,
        // Did not exist when the files were written.
        ..Usage::default()
    }
}

fn outputs() -> Outputs {
    Outputs(BTreeMap::from([("rows".into(), Value::from_json("17"))]))
}

fn token(serial: u64) -> Token {
    Token { epoch: 3, serial, nonce: 0xfeed }
}

fn worker() -> WorkerId {
    WorkerId::new(name("w1"))
}

/// Creates a change of every kind, with every kind of content.
fn changes() -> Vec<(Timestamp, Change)> {
    let submission = submission();
    let run = submission.run;
    let task = TaskIx(1);
    let evaluated = |verdict| Change::TaskEvaluated { run, task, verdict };
    let finished =
        |outcome, then| Change::AttemptFinished { run, task, outcome, usage: usage(), then };
    let retry = Then::Retry { after: Duration::from_secs(2) };
    let [_, rendered, ..] = works();
    let changes = [
        Change::RunSubmitted(Arc::new(submission)),
        evaluated(Verdict::Run(None)),
        evaluated(Verdict::Run(Some(Arc::new(rendered)))),
        evaluated(Verdict::Skip),
        evaluated(Verdict::Fail(failure())),
        Change::DependencyExpired { run, dependent: TaskIx(2), dependency: TaskIx(0) },
        Change::LeaseGranted {
            run,
            task,
            number: 1,
            token: token(8),
            worker: worker(),
            boot: BootId(5),
        },
        Change::LeaseReturned { run, task },
        Change::AttemptStarted { run, task },
        finished(Ok(Outputs::default()), Then::End),
        finished(Ok(outputs()), Then::End),
        finished(Err(failure()), retry),
        finished(Err(failure()), Then::Cancel),
        Change::BackoffEnded { run, task },
        Change::TaskFailed { run, task, failure: Failure::of(CauseKind::Infeasible) },
        Change::WorkerLost { run, worker: worker() },
        Change::RunCancelled { run, failure: Failure::of(CauseKind::Deadline) },
        Change::RunPaused { run },
        Change::RunResumed { run },
        Change::RunRetried { run, tasks: vec![TaskIx(1), TaskIx(3)] },
        Change::RunRemoved { run },
    ];
    let at = |(at, change): (u64, Change)| (Timestamp(1_700_000_000_000_000 + at), change);
    (0..).zip(changes).map(at).collect()
}

/// Creates a snapshot of a run of this submission that uses every field.
pub(crate) fn snapshot_of(submission: Arc<Submission>) -> Snapshot {
    let t0 = Timestamp(1_700_000_000_000_000);
    let mut cells: Vec<CellSnapshot> = submission
        .dag
        .tasks()
        .map(|task| CellSnapshot {
            state: TaskState::Ready,
            flags: 8,
            attempt: 0,
            tries: 0,
            crashes: 0,
            pending: 0,
            age: task.0 + 1,
        })
        .collect();
    cells[0] = CellSnapshot { state: TaskState::Running, attempt: 2, tries: 1, age: 0, ..cells[0] };
    cells[1] = CellSnapshot { state: TaskState::Failed, crashes: 1, age: 0, ..cells[1] };
    let record = Record {
        at: t0,
        code: 0,
        task: Record::NO_TASK,
        attempt: 0,
        worker: 0,
        kind: RecordKind::RunSubmitted,
        cause: None,
    };
    let failed = Record {
        at: t0 + Duration::from_secs(1),
        code: 2,
        task: 1,
        attempt: 1,
        worker: 1,
        kind: RecordKind::TaskFailed,
        cause: Some(CauseKind::ExitCode),
    };
    let lease = LeaseSnapshot {
        task: TaskIx(0),
        token: token(9),
        worker: worker(),
        boot: BootId(5),
        granted_at: t0,
        started_at: Some(t0),
    };
    let run = RunSnapshot {
        submission,
        state: RunState::Cancelling,
        submitted_at: t0,
        finished_at: None,
        cancelled: Some(Failure::of(CauseKind::Cancelled)),
        is_halted: true,
        n_failures: 1,
        cells,
        history: vec![record, failed],
        spent: Vec::new(),
        messages: kahn_core::Messages::default(),
        workers: vec![worker()],
        outputs: BTreeMap::from([(TaskIx(0), Arc::new(outputs()))]),
        failures: BTreeMap::from([(TaskIx(1), failure())]),
        rendered: BTreeMap::from([(TaskIx(1), Arc::new(works()[1].clone()))]),
        backoffs: BTreeMap::from([(TaskIx(2), t0)]),
        overruns: BTreeMap::from([(TaskIx(1), (1, 2))]),
        expired: BTreeSet::from([(TaskIx(2), TaskIx(0))]),
        waiting_since: BTreeMap::from([(TaskIx(2), t0)]),
        leases: vec![lease],
    };
    let breaker = (Namespace::new(name("team")), name("api"), 5, Some(t0));
    Snapshot {
        at: t0 + Duration::from_secs(2),
        runs: vec![run],
        archived: Vec::new(),
        breakers: vec![breaker],
        cordoned: Vec::new(),
    }
}
