//! Measures the rate of trivial Python calls with two warm interpreters.
//!
//! With one call in flight per interpreter it measures the latency of a call, and with more the
//! throughput of the executor. On a busy machine the CPU time per call is the more reliable number.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kahn_executor::logs::{LOG_BYTES_MAX, LogDir};
use kahn_executor::secrets::GivenSecrets;
use kahn_executor::{
    ALLOWED, Assignment, Executor as _, allowed_environment, attempt_environment, control,
};
use kahn_executor_process::{Limits, ProcessSettings, PythonExecutor, PythonSettings};
use kahn_model::{Action, AttemptId, PythonCall, RunId, TaskIx, Text, Timeouts, Work};

/// The allocator of the released binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const N_INTERPRETERS: u32 = 2;
const N_PER_ROUND: u32 = 5_000;
const N_ROUNDS: usize = 5;
const SOURCE: &str = "def noop(): pass\ndef echo(x): return x\ndef say(): print('hello')\n";

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("functions.py"), SOURCE).expect("a module");
    let logs = LogDir::open(&dir.path().join("logs"), LOG_BYTES_MAX).expect("a log directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let settings = PythonSettings {
        interpreters_max: Some(N_INTERPRETERS),
        calls_max: u32::MAX,
        ..PythonSettings::default()
    };
    let process_settings = ProcessSettings {
        scratch_dir: dir.path().join("scratch"),
        env: allowed_environment(&ALLOWED, std::env::vars_os()),
        grace: Duration::from_secs(10),
        limits: Limits::none(),
    };
    let executor = PythonExecutor::open(settings, process_settings).expect("an executor");
    let executor = executor.expect("python3");
    let directory = dir.path().to_str().expect("a path in UTF-8");

    println!("median of {N_ROUNDS} rounds, and of all rounds the processor time of a call");
    println!("function   in flight   per second   interpreter, us   executor, us");
    for (function, input) in [("noop", "null"), ("echo", r#"{"x": [1, 2, 3]}"#), ("say", "null")] {
        for n_in_flight in [1, N_INTERPRETERS, 64] {
            let (of_interpreters, before) = (AtomicU64::new(0), cpu_ticks());
            let mut rates: Vec<f64> = (0..N_ROUNDS)
                .map(|_| {
                    let started_at = Instant::now();
                    let work = work(function, input, directory);
                    let cpu = runtime.block_on(round(&executor, &logs, &work, n_in_flight));
                    of_interpreters.fetch_add(cpu, Ordering::Relaxed);
                    f64::from(N_PER_ROUND) / started_at.elapsed().as_secs_f64()
                })
                .collect();
            rates.sort_by(f64::total_cmp);
            let n_calls = f64::from(N_PER_ROUND) * N_ROUNDS as f64;
            // A tick is 10 ms on all systems that have ticks.
            let executor_micros = (cpu_ticks() - before) * 10_000.0 / n_calls;
            let interpreter_micros = of_interpreters.into_inner() as f64 / n_calls;
            let rate = rates[N_ROUNDS / 2];
            println!(
                "{function:<8} {n_in_flight:>11} {rate:>12.0} {interpreter_micros:>17.0} \
                 {executor_micros:>14.0}"
            );
        }
    }
}

/// Returns the CPU ticks of this process without its children.
fn cpu_ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let times = after_name.split_ascii_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}

/// Returns the CPU time of the interpreters, in microseconds.
async fn round(executor: &PythonExecutor, logs: &LogDir, work: &Work, n_in_flight: u32) -> u64 {
    let Action::Python(call) = &work.action else { return 0 };
    let prints = call.function.ends_with(":say");
    let n_started = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..n_in_flight)
        .map(|_| {
            let (executor, logs, work) = (executor.clone(), logs.clone(), work.clone());
            let n_started = Arc::clone(&n_started);
            tokio::spawn(async move {
                let mut cpu = 0;
                loop {
                    let number = n_started.fetch_add(1, Ordering::Relaxed);
                    if number >= N_PER_ROUND {
                        break cpu;
                    }
                    let (_stopper, control) = control(|| ());
                    let assignment = assignment(number, &work, &logs);
                    let attempt = assignment.attempt;
                    let report = executor.run(assignment, control).await;
                    assert!(report.outcome.is_ok(), "{report:?}");
                    cpu += u64::try_from(report.usage.cpu.as_micros()).unwrap_or(0);
                    // The worker does the same with logs that were shipped.
                    if prints {
                        logs.remove(attempt).expect("a log that can be removed");
                    }
                }
            })
        })
        .collect();
    let mut cpu = 0;
    for client in clients {
        cpu += client.await.expect("a client task");
    }
    cpu
}

fn work(function: &str, input: &str, directory: &str) -> Work {
    let call = PythonCall {
        function: format!("functions:{function}").into(),
        input: Text::new(input),
        interpreter: None,
    };
    let mut work = Work::new(Action::Python(Box::new(call)));
    work.working_dir = Some(Text::new(directory));
    work
}

fn assignment(number: u32, work: &Work, logs: &LogDir) -> Assignment {
    let run = RunId::from_slice(&[1; 16]).expect("16 bytes");
    let attempt = AttemptId { run, task: TaskIx(number), number: 1 };
    Assignment {
        attempt,
        namespace: None,
        task_name: "task".to_owned(),
        work: work.clone().into(),
        env: attempt_environment(attempt, "task", None),
        secrets: GivenSecrets::none(),
        resources: Arc::default(),
        timeouts: Timeouts::default(),
        logs: Arc::new(logs.writer(attempt)),
        is_resumed: false,
    }
}
