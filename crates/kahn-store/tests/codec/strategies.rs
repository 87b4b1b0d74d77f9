//! Strategies that generate arbitrary changes and snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kahn_core::{
    ArchiveRef, ArchivedRun, CellSnapshot, Change, LeaseSnapshot, Messages, Record, RecordKind,
    RunSnapshot, Snapshot, Spent, Submission, Then, Verdict,
};
use kahn_model::{
    BootId, Cause, CauseKind, Dag, Failure, Namespace, Outputs, RunId, RunState, TaskIx, TaskState,
    Timestamp, Token, Usage, Uuid, Value, WorkerId,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::dags;

fn run() -> impl Strategy<Value = RunId> {
    // A few ids that repeat, and arbitrary ones.
    prop_oneof![4 => 0..3u128, 1 => any::<u128>()].prop_map(|id| RunId::new(Uuid::from_u128(id)))
}

fn task() -> impl Strategy<Value = TaskIx> {
    prop_oneof![0..100u32, any::<u32>()].prop_map(TaskIx)
}

fn worker() -> impl Strategy<Value = WorkerId> {
    let few = (0..20).prop_map(|n| format!("w{n}").parse().unwrap());
    prop_oneof![4 => few, 1 => dags::name().prop_map(WorkerId::new)]
}

fn token() -> impl Strategy<Value = Token> {
    (0..3u64, any::<u64>(), 0..3u64).prop_map(|(epoch, serial, nonce)| Token {
        epoch,
        serial,
        nonce,
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![0..100u64, any::<u64>()].prop_map(Timestamp)
}

fn failure() -> impl Strategy<Value = Failure> {
    (select(CauseKind::ALL.to_vec()), any::<i32>(), ".{0,10}", ".{0,5}").prop_map(
        |(kind, code, message, exception)| {
            Failure::new(Cause { kind, code }, &message).raised(&exception)
        },
    )
}

fn values() -> impl Strategy<Value = BTreeMap<Box<str>, Value>> {
    let json = select(vec!["1", "\"a\"", "[{}, null]", "1e400"]).prop_map(Value::from_json);
    btree_map(".{0,5}".prop_map(String::into_boxed_str), json, 0..3)
}

fn usage() -> impl Strategy<Value = Usage> {
    let io = || prop_oneof![Just(0), any::<u64>()];
    (any::<[u64; 3]>(), io(), io()).prop_map(|([elapsed, cpu, memory_peak], read, written)| Usage {
        elapsed: Duration::from_nanos(elapsed),
        cpu: Duration::from_nanos(cpu),
        memory_peak,
        read_bytes: read,
        written_bytes: written,
    })
}

fn outcome() -> impl Strategy<Value = Result<Outputs, Failure>> {
    prop_oneof![
        2 => Just(Ok(Outputs::default())),
        1 => values().prop_map(|values| Ok(Outputs(values))),
        1 => failure().prop_map(Err),
    ]
}

fn then() -> impl Strategy<Value = Then> {
    let retry = any::<u64>().prop_map(|after| Then::Retry { after: Duration::from_nanos(after) });
    prop_oneof![2 => Just(Then::End), 1 => retry, 1 => Just(Then::Cancel)]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        option::of(dags::work()).prop_map(|work| Verdict::Run(work.map(Arc::new))),
        Just(Verdict::Skip),
        failure().prop_map(Verdict::Fail),
    ]
}

/// Generates submissions of small DAGs.
pub(crate) fn submission() -> impl Strategy<Value = Submission> {
    let text = || ".{0,5}".prop_map(String::into_boxed_str);
    let labels = btree_map(text(), text(), 0..3);
    let namespace = dags::name().prop_map(Namespace::new);
    (run(), namespace, dags::dag(6), values(), any::<[u8; 16]>(), labels).prop_map(
        |(run, namespace, dag, params, digest, labels)| Submission {
            run,
            namespace,
            dag: Arc::new(dag),
            params,
            digest,
            labels,
        },
    )
}

fn archive() -> impl Strategy<Value = ArchiveRef> {
    any::<(u64, [u8; 16])>().prop_map(|(bytes, digest)| ArchiveRef { bytes, digest })
}

/// Generates runs with everything about them.
pub(crate) fn whole_run() -> impl Strategy<Value = RunSnapshot> {
    submission().prop_flat_map(picture)
}

fn frequent() -> impl Strategy<Value = Change> {
    let granted = (run(), task(), any::<u32>(), token(), worker(), 0..3u64);
    prop_oneof![
        granted.prop_map(|(run, task, number, token, worker, boot)| {
            let boot = BootId(boot);
            Change::LeaseGranted { run, task, number, token, worker, boot }
        }),
        (run(), task()).prop_map(|(run, task)| Change::AttemptStarted { run, task }),
        (run(), task(), outcome(), usage(), then()).prop_map(
            |(run, task, outcome, usage, then)| Change::AttemptFinished {
                run,
                task,
                outcome,
                usage,
                then,
            }
        ),
    ]
}

fn rare() -> impl Strategy<Value = Change> {
    prop_oneof![
        submission().prop_map(|submission| Change::RunSubmitted(Arc::new(submission))),
        (run(), task(), verdict()).prop_map(|(run, task, verdict)| Change::TaskEvaluated {
            run,
            task,
            verdict
        }),
        (run(), task(), task()).prop_map(|(run, dependent, dependency)| {
            Change::DependencyExpired { run, dependent, dependency }
        }),
        (run(), task()).prop_map(|(run, task)| Change::LeaseReturned { run, task }),
        (run(), task()).prop_map(|(run, task)| Change::BackoffEnded { run, task }),
        (run(), task(), failure()).prop_map(|(run, task, failure)| Change::TaskFailed {
            run,
            task,
            failure
        }),
        (run(), worker()).prop_map(|(run, worker)| Change::WorkerLost { run, worker }),
        (run(), failure()).prop_map(|(run, failure)| Change::RunCancelled { run, failure }),
        run().prop_map(|run| Change::RunPaused { run }),
        run().prop_map(|run| Change::RunResumed { run }),
        (run(), vec(task(), 0..5)).prop_map(|(run, tasks)| Change::RunRetried { run, tasks }),
        run().prop_map(|run| Change::RunRemoved { run }),
        (run(), archive()).prop_map(|(run, archive)| Change::RunArchived { run, archive }),
        whole_run().prop_map(|run| Change::RunRestored(Arc::new(run))),
        (worker(), any::<bool>())
            .prop_map(|(worker, is_cordoned)| Change::WorkerCordoned { worker, is_cordoned }),
    ]
}

/// Generates arbitrary changes at arbitrary times.
pub(crate) fn changes() -> impl Strategy<Value = Vec<(Timestamp, Change)>> {
    vec((time(), prop_oneof![2 => frequent().boxed(), 1 => rare().boxed()]), 0..30)
}

fn cell() -> impl Strategy<Value = CellSnapshot> {
    let state = select(TaskState::ALL.to_vec());
    (state, any::<u8>(), any::<[u16; 2]>(), any::<u8>(), any::<[u32; 2]>()).prop_map(
        |(state, flags, [attempt, tries], crashes, [pending, age])| CellSnapshot {
            state,
            flags,
            attempt,
            tries,
            crashes,
            pending,
            age,
        },
    )
}

fn record(n_tasks: u32, n_workers: u16) -> impl Strategy<Value = Record> {
    let task = prop_oneof![4 => 0..n_tasks, 1 => Just(Record::NO_TASK)];
    let why = (option::of(select(CauseKind::ALL.to_vec())), prop_oneof![Just(0), any::<i32>()]);
    let kind = select(RecordKind::ALL.to_vec());
    (time(), task, any::<u16>(), 0..=n_workers, kind, why).prop_map(
        |(at, task, attempt, worker, kind, (cause, code))| Record {
            at,
            code,
            task,
            attempt,
            worker,
            kind,
            cause,
        },
    )
}

fn some<T: std::fmt::Debug>(
    n_tasks: u32,
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = BTreeMap<TaskIx, T>> {
    btree_map((0..n_tasks).prop_map(TaskIx), of, 0..3)
}

fn leases(cells: &[CellSnapshot]) -> impl Strategy<Value = Vec<LeaseSnapshot>> + use<> {
    let held = cells.iter().enumerate().filter(|(_, cell)| cell.state.is_held());
    let leases: Vec<_> = held
        .map(|(at, _)| {
            let rest = (token(), worker(), any::<u64>(), time(), option::of(time()));
            rest.prop_map(move |(token, worker, boot, granted_at, started_at)| LeaseSnapshot {
                task: TaskIx::from_index(at),
                token,
                worker,
                boot: BootId(boot),
                granted_at,
                started_at,
            })
        })
        .collect();
    leases
}

/// Generates the usage of attempts that ended in some of `n_records` records.
fn spent(n_records: usize) -> impl Strategy<Value = Vec<Spent>> + use<> {
    let records = btree_set(0..u32::try_from(n_records).unwrap().max(1), 0..=n_records.min(3));
    (records, any::<[u64; 5]>()).prop_map(|(records, amounts)| {
        let [elapsed_micros, cpu_micros, memory_peak, read_bytes, written_bytes] = amounts;
        let spent = |record| Spent {
            record,
            elapsed_micros,
            cpu_micros,
            memory_peak,
            read_bytes,
            written_bytes,
        };
        records.into_iter().map(spent).collect()
    })
}

/// What the attempts said whose ends are some of so many records.
fn messages(n_records: usize) -> impl Strategy<Value = Messages> + use<> {
    let records =
        btree_map(0..u32::try_from(n_records).unwrap().max(1), ".{0,9}", 0..=n_records.min(3));
    records.prop_map(|records| {
        let mut messages = Messages::default();
        records.iter().for_each(|(record, text)| messages.push(*record, text));
        messages
    })
}

fn picture(submission: Submission) -> impl Strategy<Value = RunSnapshot> {
    let dag: Arc<Dag> = Arc::clone(&submission.dag);
    let submission = Arc::new(submission);
    let cells = if dag.n_tasks().is_multiple_of(2) {
        Just(vec![plain_cell(); dag.n_tasks()]).boxed()
    } else {
        vec(cell(), dag.n_tasks()).boxed()
    };
    let n = u32::try_from(dag.n_tasks()).unwrap();
    let workers = vec(worker(), 3);
    (cells, vec(record(n, 3), 0..10), workers).prop_flat_map(move |(cells, history, workers)| {
        let submission = Arc::clone(&submission);
        let whole = (
            select(RunState::ALL.to_vec()),
            time(),
            option::of(time()),
            option::of(failure()),
            any::<bool>(),
            any::<u32>(),
        );
        let outputs = some(n, values().prop_map(|values| Arc::new(Outputs(values))));
        let parts = (
            outputs,
            some(n, failure()),
            some(n, dags::work().prop_map(Arc::new)),
            some(n, time()),
            some(n, any::<(u32, u32)>()),
            some(n, time()),
        );
        let ends = btree_set(((0..n).prop_map(TaskIx), (0..n).prop_map(TaskIx)), 0..3);
        let held = (leases(&cells), spent(history.len()), messages(history.len()));
        (whole, parts, ends, held).prop_map(
            move |(whole, parts, expired, (leases, spent, messages))| {
                let (state, submitted_at, finished_at, cancelled, is_halted, n_failures) = whole;
                let (outputs, failures, rendered, backoffs, overruns, waiting_since) = parts;
                RunSnapshot {
                    submission: Arc::clone(&submission),
                    state,
                    submitted_at,
                    finished_at,
                    cancelled,
                    is_halted,
                    n_failures,
                    cells: cells.clone(),
                    history: history.clone(),
                    spent,
                    messages,
                    workers: workers.clone(),
                    outputs,
                    failures,
                    rendered,
                    backoffs,
                    overruns,
                    expired,
                    waiting_since,
                    leases,
                }
            },
        )
    })
}

fn plain_cell() -> CellSnapshot {
    let state = TaskState::Pending;
    CellSnapshot { state, flags: 0, attempt: 0, tries: 0, crashes: 0, pending: 0, age: 0 }
}

/// Generates snapshots of a few runs.
pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let namespace = dags::name().prop_map(Namespace::new);
    let breaker = (namespace, dags::name(), any::<u32>(), option::of(time()));
    let runs = vec(whole_run(), 0..4);
    let archived = vec((whole_run(), archive()), 0..4);
    (time(), runs, archived, vec(breaker, 0..3), vec(worker(), 0..3)).prop_map(
        |(at, mut runs, archived, breakers, cordoned)| {
            let mut seen = BTreeSet::new();
            runs.retain(|run| seen.insert(run.submission.run));
            let archived = archived.iter().filter(|(run, _)| seen.insert(run.submission.run));
            let archived =
                archived.map(|(run, archive)| ArchivedRun::new(&run.summary(), *archive));
            let archived = archived.collect();
            Snapshot { at, runs, archived, breakers, cordoned }
        },
    )
}
