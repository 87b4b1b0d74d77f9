//! Compares the rate of short processes with the rate at which the machine can spawn them.
//!
//! Both sides have the same number in flight. They alternate, because machines are noisy, and the
//! result is the ratio of the medians. The baseline uses one thread per process in flight, which
//! starts `/bin/true` and waits for it. Its environment is that of a task, since the number and
//! size of variables affect the cost of a spawn.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kahn_executor::logs::{LOG_BYTES_MAX, LogDir};
use kahn_executor::secrets::GivenSecrets;
use kahn_executor::{
    ALLOWED, Assignment, Executor as _, allowed_environment, attempt_environment, control,
};
use kahn_executor_process::{LimitSettings, Limits, ProcessExecutor, ProcessSettings};
use kahn_model::{Action, AttemptId, Resource, Resources, RunId, TaskIx, Text, Timeouts, Work};

/// The allocator of the released binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const N_IN_FLIGHT: u32 = 16;
const N_PER_ROUND: u32 = 1_500;
const N_ROUNDS: usize = 11;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let env = allowed_environment(&ALLOWED, std::env::vars_os());
    let executor = |name: &str, limits| {
        let settings = ProcessSettings {
            scratch_dir: dir.path().join(name),
            env: env.clone(),
            grace: Duration::from_secs(10),
            limits,
        };
        ProcessExecutor::open(settings).expect("an executor")
    };
    let limits = Limits::open(
        LimitSettings::default(),
        &"bench".parse().expect("a name"),
        // Capacity for all processes in flight, because it determines their weight relative to
        // everything else on the machine.
        &Resources::cpu_milli(u64::from(N_IN_FLIGHT) * 1000),
        None,
        &dir.path().join("groups"),
    );
    println!("{}\n", limits.statement());
    // Without limits, with the usual CPU request, and with memory in addition.
    let kinds = [
        ("nothing held", executor("free", Limits::none()), Resources::none()),
        ("cpu held", executor("cpu", Arc::clone(&limits)), Resources::cpu_milli(1000)),
        (
            "cpu, memory held",
            executor("memory", limits),
            Resources::cpu_milli(1000).with(&Resource::Memory, 64 << 20),
        ),
    ];
    let logs = LogDir::open(&dir.path().join("logs"), LOG_BYTES_MAX).expect("a log directory");

    let (mut floor, mut ours) = (Vec::new(), [const { Vec::new() }; 3]);
    for _ in 0..N_ROUNDS {
        floor.push(measure(|| bare(&env)));
        for ((_, executor, resources), costs) in kinds.iter().zip(&mut ours) {
            let round = with_executor(executor, resources, &logs);
            costs.push(measure(|| runtime.block_on(round)));
        }
    }
    let floor = Cost::median(&floor);
    println!("                      per second   CPU each, us      ratio   by CPU");
    println!("bare spawn            {:>10.0}   {:>12.0}", floor.rate, floor.cpu_micros);
    for ((name, ..), costs) in kinds.iter().zip(&ours) {
        let cost = Cost::median(costs);
        let (by_rate, by_cpu) = (cost.rate / floor.rate, floor.cpu_micros / cost.cpu_micros);
        let (rate, cpu) = (cost.rate, cost.cpu_micros);
        println!("{name:<20}  {rate:>10.0}   {cpu:>12.0}   {by_rate:>8.2} {by_cpu:>8.2}");
    }
}

/// The cost per process of a round.
struct Cost {
    rate: f64,
    /// CPU time of parent and child. On a busy machine this is the more reliable number.
    cpu_micros: f64,
}

impl Cost {
    fn median(costs: &[Self]) -> Self {
        let median = |value: fn(&Self) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self { rate: median(|cost| cost.rate), cpu_micros: median(|cost| cost.cpu_micros) }
    }
}

fn measure(round: impl FnOnce()) -> Cost {
    let (started_at, cpu_before) = (Instant::now(), cpu_ticks());
    round();
    let rate = f64::from(N_PER_ROUND) / started_at.elapsed().as_secs_f64();
    // A tick is 10 ms on all systems that have this file.
    let cpu_micros = (cpu_ticks() - cpu_before) * 10_000.0 / f64::from(N_PER_ROUND);
    Cost { rate, cpu_micros }
}

/// Returns the CPU ticks of this process and of the children that it has reaped.
fn cpu_ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let times = after_name.split_ascii_whitespace().skip(11).take(4);
    times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}

fn bare(env: &[(OsString, OsString)]) {
    let n_started = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..N_IN_FLIGHT {
            scope.spawn(|| {
                while n_started.fetch_add(1, Ordering::Relaxed) < N_PER_ROUND {
                    let mut command = Command::new("/bin/true");
                    command.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
                    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    assert!(command.status().expect("a spawn").success());
                }
            });
        }
    });
}

async fn with_executor(executor: &ProcessExecutor, resources: &Resources, logs: &LogDir) {
    let resources = Arc::new(resources.clone());
    let n_started = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..N_IN_FLIGHT)
        .map(|_| {
            let (executor, logs) = (executor.clone(), logs.clone());
            let (n_started, resources) = (Arc::clone(&n_started), Arc::clone(&resources));
            tokio::spawn(async move {
                loop {
                    let number = n_started.fetch_add(1, Ordering::Relaxed);
                    if number >= N_PER_ROUND {
                        break;
                    }
                    let (_stopper, control) = control(|| ());
                    let report = executor.run(assignment(number, &resources, &logs), control).await;
                    assert!(report.outcome.is_ok());
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client task");
    }
}

fn assignment(number: u32, resources: &Arc<Resources>, logs: &LogDir) -> Assignment {
    let run = RunId::from_slice(&[1; 16]).expect("16 bytes");
    let attempt = AttemptId { run, task: TaskIx(number), number: 1 };
    Assignment {
        attempt,
        namespace: None,
        task_name: "true".to_owned(),
        work: Work::new(Action::Exec { argv: vec![Text::new("/bin/true")] }).into(),
        env: attempt_environment(attempt, "true", None),
        secrets: GivenSecrets::none(),
        resources: Arc::clone(resources),
        timeouts: Timeouts::default(),
        logs: Arc::new(logs.writer(attempt)),
        is_resumed: false,
    }
}
