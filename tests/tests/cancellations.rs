//! A thousand cancellations at random moments, over all executors. When a task is reported as
//! cancelled, its processes must already be dead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use kahn_client::{Client, Event, Submission};
use kahn_e2e::{
    CANARY, Cluster, ClusterOptions, Engine, IMAGE, NeverDoneServer, Store, WorkerOptions,
    example_worker_path, live_processes, warn_no_engine,
};
use kahn_model::RunState;

const SEED: u64 = 1962;
/// The number of cancelled tasks to observe.
const CANCELLATIONS: usize = 1000;
/// The number of concurrent runs. Together they request about twice the capacity of the workers.
const CLIENTS: u64 = 5;
const RUNS_MAX: u64 = 150;
/// The time limit of a run, from its submission until its end is observed.
const RUN_MAX: Duration = Duration::from_secs(60);

/// What cancels a run.
#[derive(Clone, Copy, Debug)]
enum CancelledBy {
    /// A client.
    Client,
    /// The deadline of the run.
    Deadline,
    /// A failed task.
    Failure,
}

/// The progress of a task when it was cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Waiting,
    Leased,
    Started,
}

/// An observable effect of a task, in addition to its processes.
#[derive(Clone, Debug)]
enum Trace {
    /// A file that grows while the task runs.
    File(PathBuf),
    /// A path that is requested repeatedly while the task runs.
    Path(String),
}

/// Where tasks leave traces.
#[derive(Debug)]
struct World {
    dir: PathBuf,
    server: NeverDoneServer,
    engine: Option<Engine>,
}

impl World {
    /// Returns the size of the trace.
    fn size(&self, trace: &Trace) -> u64 {
        match trace {
            Trace::File(file) => std::fs::metadata(file).map_or(0, |found| found.len()),
            Trace::Path(path) => u64::from(self.server.n_asked(path)),
        }
    }
}

/// A DAG file and the traces of its tasks.
#[derive(Debug)]
struct Plan {
    text: String,
    cancelled_by: CancelledBy,
    /// When it is cancelled.
    after: Duration,
    traces: BTreeMap<String, Trace>,
}

/// Child processes that ignore SIGTERM, one of them in a separate session.
const FAMILY: &str =
    "(trap '' TERM; sleep 1000; :) & setsid sleep 1000 & sleep 1000 & sleep 1000; wait";
/// Forks twice, leaves the session, and clears the variables that identify the task.
const DAEMON: &str =
    "setsid -f sh -c 'env -i \"$0\" sleep 1000 & sleep 1000' \"$HIDDEN\"; sleep 1000";
const PYTHON: &str = r#"
import os, signal, subprocess, time

def beat(given):
    if given["stubborn"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "1000"], env=os.environ.copy(), start_new_session=True)
    with open(given["file"], "w") as out:
        while True:
            print("beat", file=out, flush=True)
            time.sleep(0.01)
"#;

impl Plan {
    /// Creates the plan of a run: two or three tasks of each kind of action.
    fn new(number: u64, world: &World, rng: &mut Rng) -> Self {
        let cancelled_by = match rng.u8(..8) {
            0 => CancelledBy::Deadline,
            1 => CancelledBy::Failure,
            _ => CancelledBy::Client,
        };
        let after = match rng.u8(..10) {
            0..2 => Duration::ZERO,
            2..7 => Duration::from_millis(rng.u64(0..400)),
            _ => Duration::from_millis(rng.u64(400..1200)),
        };
        let policy = match cancelled_by {
            CancelledBy::Deadline => format!("{{ timeout: {}ms }}", after.as_millis().max(1)),
            CancelledBy::Client | CancelledBy::Failure => "{ on_failure: fail_fast }".to_owned(),
        };
        let text = format!(
            "name: cancelled-{number}\npolicy: {policy}\ndefaults:\n  resources: {{ cpu: 0.25 }}\n  \
             timeouts: {{ grace: 200ms }}\ntasks:\n"
        );
        let mut plan = Self { text, cancelled_by, after, traces: BTreeMap::new() };
        plan.add_processes(rng);
        plan.add_calls(number, world, rng);
        plan
    }

    fn add(&mut self, name: &str, action: &str) {
        self.text.push_str(&format!("  {name}:\n    {action}\n"));
    }

    fn add_processes(&mut self, rng: &mut Rng) {
        for n in 0..2 {
            self.add(&format!("run-{n}"), &format!("run: {FAMILY:?}"));
        }
        self.add("exec-0", "exec: [sleep, \"1000\"]");
        let stubborn = "trap '' TERM; while :; do sleep 1; done";
        self.add("exec-1", &format!("exec: [sh, -c, {stubborn:?}]"));
        for n in 0..2 {
            let hidden = format!("{CANARY}=${{{{ run.id }}}}/daemon-{n}");
            let env = format!("env: {{ HIDDEN: {hidden:?} }}");
            self.add(&format!("daemon-{n}"), &format!("exec: [sh, -c, {DAEMON:?}]\n    {env}"));
        }
        // Ends at about the time of the cancellation.
        let near = self.after.as_millis() + u128::from(rng.u64(0..60));
        let seconds = Duration::from_millis(u64::try_from(near).unwrap_or(0)).as_secs_f64();
        self.add("ending", &format!("exec: [sleep, \"{seconds}\"]"));
        if matches!(self.cancelled_by, CancelledBy::Failure) {
            self.add("failing", &format!("run: sleep {}; exit 1", self.after.as_secs_f64()));
        }
    }

    fn add_calls(&mut self, number: u64, world: &World, rng: &mut Rng) {
        let dir = world.dir.display();
        let mut add_with_file = |name: &str, action: &dyn Fn(&Path) -> String| {
            let file = world.dir.join(format!("{number}-{name}"));
            self.text.push_str(&format!("  {name}:\n    {}\n", action(&file)));
            self.traces.insert(name.to_owned(), Trace::File(file));
        };
        for (name, function) in [("function-0", "trickle"), ("function-1", "write_lines")] {
            add_with_file(name, &|file| {
                format!(
                    "function: {{ name: {function}, input: {{ file: {file:?}, lines: 9999 }} }}"
                )
            });
        }
        for (name, is_stubborn) in [("python-0", false), ("python-1", true)] {
            add_with_file(name, &|file| {
                let input = format!("{{ file: {file:?}, stubborn: {is_stubborn} }}");
                format!(
                    "python: {{ function: \"beats:beat\", input: {input} }}\n    \
                     working_dir: {dir}"
                )
            });
        }
        let path = format!("/200/{number}");
        let url = format!("http://127.0.0.1:{}", world.server.port);
        let until = "until: response.json.done";
        self.add("http-0", &format!("http: {{ url: \"{url}{path}\", {until}, every: 100ms }}"));
        self.traces.insert("http-0".to_owned(), Trace::Path(path));
        self.add("http-1", &format!("http: {{ url: \"{url}/never/{number}\" }}"));
        self.add("sleep-0", "sleep: 1000s");
        if world.engine.is_some() {
            let how = if rng.bool() { "wait" } else { "wait-stubbornly" };
            let container = format!("{{ image: {IMAGE}, pull: never, args: [{how}] }}");
            self.add("container-0", &format!("container: {container}"));
        }
    }
}

/// Observations about a run.
#[derive(Debug, Default)]
struct Seen {
    /// Cancelled tasks and their progress.
    cancelled: BTreeMap<String, Phase>,
    phases: BTreeMap<String, Phase>,
    /// What was still alive after it was reported as cancelled.
    survivors: Vec<String>,
    /// The sizes of traces when their tasks were reported as cancelled.
    sizes: Vec<(String, Trace, u64)>,
}

impl Seen {
    fn take(&mut self, event: &Event) -> bool {
        let phase = match event.kind.as_str() {
            "task_leased" => Phase::Leased,
            "task_returned" => Phase::Waiting,
            "task_started" => Phase::Started,
            "task_cancelled" => {
                let phase = self.phases.get(&event.task).copied().unwrap_or_default();
                self.cancelled.insert(event.task.clone(), phase);
                return true;
            }
            _ => return false,
        };
        self.phases.insert(event.task.clone(), phase);
        false
    }

    /// Records what remains of these tasks.
    fn look(&mut self, run: &str, plan: &Plan, world: &World, tasks: &[String]) {
        let live_processes = live_processes();
        for task in tasks {
            if let Some(processes) = live_processes.get(&(run.to_owned(), task.clone())) {
                self.survivors.push(format!("{task} of {run}: {}", processes.join("; ")));
            }
            if let Some(trace) = plan.traces.get(task) {
                self.sizes.push((format!("{task} of {run}"), trace.clone(), world.size(trace)));
            }
        }
    }

    /// Records what remains of a run that has ended.
    fn look_at_all(&mut self, run: &str, world: &World) -> anyhow::Result<()> {
        let left = live_processes().into_iter().filter(|((of, _), _)| of == run);
        self.survivors.extend(left.map(|((_, task), who)| format!("{task} of {run}: {who:?}")));
        if let Some(engine) = &world.engine {
            let left = engine.containers(run)?;
            self.survivors.extend(left.iter().map(|task| format!("container of {task} of {run}")));
        }
        Ok(())
    }
}

/// Runs a plan until it is cancelled, and observes its end.
async fn cancel_one(client: &Client, plan: &Plan, world: &World) -> anyhow::Result<Seen> {
    let run = client.submit(&Submission::new(&plan.text)).await?.run;
    let (canceller, after) = (client.clone(), plan.after);
    if matches!(plan.cancelled_by, CancelledBy::Client) {
        tokio::spawn(async move {
            // The moment is random; this does not wait for a condition.
            tokio::time::sleep(after).await; // poll
            canceller.cancel(run, "a test").await
        });
    }
    let mut watch = client.watch(run, 0);
    let mut seen = Seen::default();
    let mut state = None;
    while let Some(update) = watch.next().await? {
        let cancelled: Vec<String> = update
            .events
            .iter()
            .filter(|event| seen.take(event))
            .map(|event| event.task.clone())
            .collect();
        if !cancelled.is_empty() {
            seen.look(&run.to_string(), plan, world, &cancelled);
        }
        state = update.run.map(|run| run.state).or(state);
    }
    seen.look_at_all(&run.to_string(), world)?;
    let expected = match plan.cancelled_by {
        CancelledBy::Client => RunState::Cancelled,
        CancelledBy::Deadline | CancelledBy::Failure => RunState::Failed,
    };
    anyhow::ensure!(state == Some(expected), "{run} by {:?}: {state:?}", plan.cancelled_by);
    Ok(seen)
}

/// Observations about all runs.
#[derive(Debug, Default)]
struct Tally {
    n_runs: u64,
    by_kind: BTreeMap<String, [usize; 3]>,
    survivors: Vec<String>,
    sizes: Vec<(String, Trace, u64)>,
}

impl Tally {
    fn add(&mut self, seen: Seen) {
        self.n_runs += 1;
        for (task, phase) in seen.cancelled {
            let kind = task.split('-').next().unwrap_or_default().to_owned();
            let place =
                [Phase::Waiting, Phase::Leased, Phase::Started].iter().position(|p| *p == phase);
            self.by_kind.entry(kind).or_default()[place.unwrap_or(0)] += 1;
        }
        self.survivors.extend(seen.survivors);
        self.sizes.extend(seen.sizes);
    }

    fn merge(&mut self, other: Self) {
        self.n_runs += other.n_runs;
        for (kind, counts) in other.by_kind {
            let sum = self.by_kind.entry(kind).or_default();
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        self.survivors.extend(other.survivors);
        self.sizes.extend(other.sizes);
    }

    /// Returns the number of tasks that were cancelled in this phase.
    fn n(&self, phase: usize) -> usize {
        self.by_kind.values().map(|counts| counts[phase]).sum()
    }

    fn n_cancelled(&self) -> usize {
        (0..3).map(|phase| self.n(phase)).sum()
    }
}

/// Cancels one run after the other until all clients together have observed enough.
async fn run_client(
    client: Client,
    world: Arc<World>,
    next: Arc<AtomicU64>,
    n_seen: Arc<AtomicU64>,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    while n_seen.load(Ordering::Relaxed) < u64::try_from(CANCELLATIONS)? {
        let number = next.fetch_add(1, Ordering::Relaxed);
        anyhow::ensure!(number < RUNS_MAX, "{RUNS_MAX} runs were not enough");
        let plan = Plan::new(number, &world, &mut Rng::with_seed(SEED + number));
        let seen = tokio::time::timeout(RUN_MAX, cancel_one(&client, &plan, &world)).await;
        let seen = seen.with_context(|| format!("run {number} has no end: {}", plan.text))??;
        n_seen.fetch_add(u64::try_from(seen.cancelled.len())?, Ordering::Relaxed);
        tally.add(seen);
    }
    Ok(tally)
}

fn options(world: &World) -> ClusterOptions {
    let mut environment = vec![("KAHN_WORKER__HTTP__ALLOW".to_owned(), "127.0.0.1".to_owned())];
    environment.push(("KAHN_WORKER__PYTHON__INTERPRETERS_MAX".to_owned(), "4".to_owned()));
    let usual = Path::new("/usr/bin/python3");
    // Wrappers that select one of several versions start more slowly than most tasks here run.
    let python = if usual.is_file() { usual } else { Path::new("python3") };
    let python = python.display().to_string();
    environment.push(("KAHN_WORKER__PYTHON__INTERPRETER".to_owned(), python));
    environment.push(("KAHN_WORKER__FUNCTIONS__THREADS".to_owned(), "4".to_owned()));
    environment.extend(world.engine.iter().flat_map(Engine::environment));
    let worker = |name: &str, program| WorkerOptions {
        name: name.into(),
        capacity: "cpu=5 memory=4Gi".into(),
        label: ("zone".into(), "eu".into()),
        environment: environment.clone(),
        program,
    };
    let workers = vec![worker("plain", None), worker("own", Some(example_worker_path()))];
    ClusterOptions { store: Store::RedisEverysec, workers }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_cancellations_at_random_moments_leave_nothing_alive() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("beats.py"), PYTHON)?;
    let engine = Engine::find()?;
    if engine.is_none() {
        warn_no_engine("cancellations of containers");
    }
    let server = NeverDoneServer::start()?;
    let world = Arc::new(World { dir: dir.path().to_owned(), server, engine });
    let cluster = Cluster::start(&options(&world))?;
    let client = Client::connect(&cluster.url(), Some(&cluster.client_token()?)).await?;
    let (next, n_seen) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let clients = (0..CLIENTS).map(|_| {
        let (next, n_seen) = (Arc::clone(&next), Arc::clone(&n_seen));
        tokio::spawn(run_client(client.clone(), Arc::clone(&world), next, n_seen))
    });
    let mut tally = Tally::default();
    for client in clients.collect::<Vec<_>>() {
        tally.merge(client.await??);
    }
    let summary = format!("{} runs; waiting, leased, started: {:?}", tally.n_runs, tally.by_kind);
    assert_eq!(tally.survivors, Vec::<String>::new(), "{summary}");
    for (whose, trace, size) in &tally.sizes {
        // A request may still be in flight when its sender is dead.
        let may_come = if matches!(trace, Trace::Path(_)) { 1 } else { 0 };
        let now = world.size(trace);
        assert!(now <= size + may_come, "{whose} left {size}, then {now}: {trace:?}");
    }
    assert!(tally.n_cancelled() >= CANCELLATIONS, "{summary}");
    for phase in 0..3 {
        assert!(tally.n(phase) >= CANCELLATIONS / 100, "{summary}");
    }
    for (kind, counts) in &tally.by_kind {
        assert!(counts[2] > 0 && counts.iter().sum::<usize>() >= 50, "{kind}: {summary}");
    }
    assert_eq!(tally.by_kind.len(), if world.engine.is_some() { 9 } else { 8 }, "{summary}");
    eprintln!("{summary}");
    Ok(())
}
