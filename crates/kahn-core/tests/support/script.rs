//! Scenario scripts: executes events line by line and writes a transcript.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kahn_core::testing::{DagScript, World, dag, exit_code};
use kahn_core::{ArchiveRef, Event, RetryScope, RunSnapshot, Settings, Spreading, Waiting};
use kahn_model::{
    ActionKind, Admission, AttemptId, Cause, CauseKind, Dag, DependencyKind, Failure, Outputs,
    Pressure, PressureKind, RunId, Share, TaskIx, Trigger, Uuid, Value, When,
};

/// The state of a scenario.
#[derive(Debug)]
pub(crate) struct Script {
    world: World,
    dags: BTreeMap<String, Arc<Dag>>,
    out: String,
    last_report: Option<Event>,
    n_logged: usize,
    /// Runs as they were stored last.
    stored: BTreeMap<RunId, Arc<RunSnapshot>>,
}

/// Executes a script and returns the transcript.
pub(crate) fn carry_out(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).peekable();
    let settings = lines.next_if(|line| line.starts_with("settings ")).map(read_settings);
    let mut script = Script {
        world: World::with(settings.unwrap_or_default()),
        dags: BTreeMap::new(),
        out: String::new(),
        last_report: None,
        n_logged: 0,
        stored: BTreeMap::new(),
    };
    while let Some(line) = lines.next() {
        if let Some(head) = line.strip_prefix("dag ") {
            let mut dag = Vec::new();
            while let Some(task) = lines.next_if(|line| line.starts_with("  ")) {
                dag.push(task.trim());
            }
            script.define(head, &dag);
        } else {
            script.event(line);
        }
    }
    script.out
}

fn read_settings(line: &str) -> Settings {
    let mut settings = Settings { prefetch_max: 0, ..Settings::default() };
    for word in line.split_whitespace().skip(1) {
        match word.split_once('=').expect("key=value") {
            ("spreading", "pack") => settings.spreading = Spreading::Pack,
            ("prefetch", n) => settings.prefetch_max = number(n),
            ("grants", n) => settings.grants_per_pass = number(n),
            other => panic!("unknown setting {other:?}"),
        }
    }
    settings
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is a number"))
}

/// Parses `5s` or `300ms`.
fn span(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(number(millis)),
        None => Duration::from_secs(number(text.strip_suffix('s').expect("seconds"))),
    }
}

impl Script {
    fn define(&mut self, head: &str, tasks: &[&str]) {
        let mut words = head.split_whitespace();
        let name = words.next().expect("a DAG has a name").to_owned();
        let mut script = dag();
        for word in words {
            script = match word.split_once('=').unwrap_or((word, "")) {
                ("fail_fast", _) => script.fail_fast(),
                ("max_failures", n) => script.max_failures(number(n)),
                ("max_parallel", n) => script.max_parallel(number(n)),
                ("deadline", time) => script.run_deadline(span(time)),
                ("priority", n) => script.run_priority(number(n)),
                other => panic!("unknown policy {other:?}"),
            };
        }
        for task in tasks {
            script = read_task(script, task);
        }
        self.dags.insert(name, script.build());
    }

    fn event(&mut self, line: &str) {
        writeln!(self.out, "> {line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["worker", name, rest @ ..] => self.new_worker(name, rest),
            ["submit", dag] => self.submit(dag, "default"),
            ["submit", dag, "for", namespace] => self.submit(dag, namespace),
            ["submit", "again", run] => self.submit_again(run, false),
            ["submit", "other", run] => self.submit_again(run, true),
            ["start", worker, tasks @ ..] => self.each(worker, tasks, |world, worker, attempt| {
                world.start(worker, attempt);
            }),
            ["return", worker, tasks @ ..] => self.each(worker, tasks, |world, worker, attempt| {
                world.give_back(worker, attempt);
            }),
            ["finish", worker, task, outcome] => {
                let outcome = read_outcome(outcome);
                self.each(worker, &[task], |world, worker, attempt| {
                    world.finish(worker, attempt, outcome.clone());
                });
            }
            ["finish", worker, task, outcome, elapsed] => {
                let (outcome, elapsed) = (read_outcome(outcome), span(elapsed));
                self.each(worker, &[task], |world, worker, attempt| {
                    world.finish_after(worker, attempt, outcome.clone(), elapsed);
                });
            }
            ["repeat", worker] => self.repeat(worker),
            ["accepts", worker, share, rest @ ..] => self.accepts(worker, share, rest),
            ["wait", time] => self.world.wait(span(time)),
            ["takeover", time] => self.world.take_over(span(time)),
            ["explain", task] => self.explain(task),
            ["waiting", run] => self.waiting(run),
            ["show", run] => self.show(run),
            ["workers"] => self.show_workers(),
            ["rest"] => self.world.finish_all(),
            [verb, worker] if self.world.workers.contains_key(*worker) => {
                self.steer_worker(verb, worker);
            }
            other => self.steer_run(other),
        }
        self.transcribe();
    }

    fn new_worker(&mut self, name: &str, words: &[&str]) {
        let mut resources = Vec::new();
        let (mut labels, mut leases_max, mut only) = (Vec::new(), 1000, None);
        for word in words {
            match word.split_once('=').expect("key=value") {
                ("label", label) => labels.push(label.split_once(':').expect("key:value")),
                ("max", n) => leases_max = number(n),
                ("only", "builtin") => only = Some(ActionKind::Builtin),
                _ => resources.push(*word),
            }
        }
        match only {
            None => self.world.attach_with(name, &resources.join(" "), &labels, leases_max),
            Some(kind) => {
                self.world.attach(name, &resources.join(" "));
                self.world.worker_mut(name).executors = vec![kind];
                self.world.reattach(name);
            }
        }
    }

    /// Executes `accepts w1 60%`, optionally with the pressure: `memory=230/100`.
    fn accepts(&mut self, name: &str, share: &str, why: &[&str]) {
        let pressure = why.first().map(|word| {
            let (kind, figures) = word.split_once('=').expect("kind=measured/limit");
            let (measured, limit) = figures.split_once('/').expect("measured/limit");
            let kind = find(&PressureKind::ALL, kind);
            Pressure { kind, measured: number(measured), limit: number(limit) }
        });
        let percent: u32 = number(share.trim_end_matches('%'));
        let share = Share::from_permille(percent * 10).expect("a share");
        let worker = self.world.worker_mut(name);
        worker.admission = Admission { share, pressure, age: Duration::ZERO };
        let Some(session) = worker.session else { return };
        let admission = worker.admission;
        self.step(Event::AdmissionChanged { session, admission });
    }

    fn submit(&mut self, dag: &str, namespace: &str) {
        let dag = Arc::clone(&self.dags[dag]);
        self.world.submit_for(namespace, &dag);
    }

    fn submit_again(&mut self, run: &str, is_other: bool) {
        let mut again = (*self.world.run(run_id(run)).submission).clone();
        again.digest[0] ^= u8::from(is_other);
        self.step(Event::Submitted(Arc::new(again)));
    }

    fn step(&mut self, event: Event) {
        if let Err(refusal) = self.world.step(event) {
            let mut text = refusal.to_string();
            for n in 1..10 {
                text = text.replace(&RunId::new(Uuid::from_u128(n)).to_string(), &format!("r{n}"));
            }
            writeln!(self.out, "  refused: {text}").unwrap();
        }
    }

    fn each(&mut self, worker: &str, tasks: &[&str], act: impl Fn(&mut World, &str, AttemptId)) {
        for task in tasks {
            let (run, name) = task.split_once('/').expect("run/task");
            let attempt = self.world.held(worker, run_id(run), name);
            let attempt = attempt.unwrap_or_else(|| panic!("{worker} does not hold {task}"));
            let token = self.world.worker_mut(worker).held[&attempt].token;
            self.last_report = None;
            act(&mut self.world, worker, attempt);
            let found = self.world.worker_mut(worker).unacknowledged.last().cloned();
            let usage = kahn_model::Usage::default();
            let kind = found.map_or(
                kahn_core::ReportKind::Finished { outcome: Ok(Outputs::default()), usage },
                |report| report.kind,
            );
            let report = Box::new(kahn_core::WorkerReport { attempt, token, kind });
            self.last_report = Some(Event::Reported { session: kahn_core::SessionId(0), report });
        }
    }

    /// Sends the previous report again as a success, from any worker.
    fn repeat(&mut self, worker: &str) {
        let session = self.world.worker_mut(worker).session.expect("it has a stream");
        let Some(Event::Reported { report, .. }) = self.last_report.clone() else {
            panic!("nothing was reported")
        };
        self.step(Event::Reported { session, report });
    }

    fn steer_worker(&mut self, verb: &str, name: &str) {
        let worker = self.world.worker_mut(name);
        let id = worker.id.clone();
        match verb {
            "detach" => self.world.detach(name),
            "attach" => self.world.reattach(name),
            "reboot" => self.world.reboot(name),
            "silence" => worker.is_silent = true,
            "deafen" => worker.is_deaf = true,
            "beat" => {
                let session = worker.session.expect("it has a stream");
                self.step(Event::Heartbeat { session });
            }
            "leave" => {
                let session = worker.session.expect("it has a stream");
                self.step(Event::DrainStarted { session });
            }
            "cordon" | "uncordon" => {
                let is_cordoned = verb == "cordon";
                self.step(Event::CordonRequested { worker: id, is_cordoned });
            }
            "drain" => self.step(Event::DrainRequested { worker: id }),
            other => panic!("unknown: {other} {name}"),
        }
    }

    fn steer_run(&mut self, words: &[&str]) {
        match words {
            ["cancel", run, reason] => {
                self.step(Event::CancelRequested { run: run_id(run), reason: (*reason).into() });
            }
            ["pause", run] => self.step(Event::PauseRequested { run: run_id(run) }),
            ["resume", run] => self.step(Event::ResumeRequested { run: run_id(run) }),
            ["store", run] => self.store(run),
            ["stored", run] => self.tell_stored(run),
            ["fetch", run] => {
                let stored = Arc::clone(&self.stored[&run_id(run)]);
                self.step(Event::RunFetched(stored));
            }
            ["expire", run] => self.step(Event::RunExpired { run: run_id(run) }),
            ["retry", run, "failed"] => self.retry(run, RetryScope::Failed),
            ["retry", run, "from", task] => {
                let scope = RetryScope::From(vec![self.task(run, task)]);
                self.retry(run, scope);
            }
            ["retry", run, "only", task] => {
                let scope = RetryScope::Only(vec![self.task(run, task)]);
                self.retry(run, scope);
            }
            ["evaluate", task, verdict] => {
                let (run, name) = task.split_once('/').expect("run/task");
                let outcome = match *verdict {
                    "run" => Ok(None),
                    "skip" => Err(Failure::of(CauseKind::Condition)),
                    text => Err(Failure::new(Cause::of(CauseKind::Expression), text)),
                };
                let task = self.task(run, name);
                self.step(Event::Evaluated { run: run_id(run), task, outcome });
            }
            other => panic!("unknown: {other:?}"),
        }
    }

    /// Stores a run, of which the core does not hear yet.
    fn store(&mut self, run: &str) {
        let snapshot = self.world.core.state().snapshot_run(self.world.run(run_id(run)));
        self.stored.insert(run_id(run), Arc::new(snapshot));
    }

    /// Tells the core that a run is stored.
    fn tell_stored(&mut self, run: &str) {
        let run = run_id(run);
        let stored = &self.stored[&run];
        let (n_records, finished_at) = (stored.history.len(), stored.finished_at);
        let archive = ArchiveRef { bytes: 100, digest: [1; 16] };
        self.step(Event::RunStored { run, n_records, finished_at, archive });
    }

    fn retry(&mut self, run: &str, scope: RetryScope) {
        self.step(Event::RetryRequested { run: run_id(run), scope });
    }

    /// Returns a task by name, or a task number that does not exist.
    fn task(&self, run: &str, task: &str) -> TaskIx {
        self.world.run(run_id(run)).dag.task_by_name(task).unwrap_or(TaskIx(999))
    }

    fn explain(&mut self, task: &str) {
        let (run, name) = task.split_once('/').expect("run/task");
        let why = self.world.core.explain(run_id(run), self.task(run, name)).expect("a task");
        writeln!(self.out, "  {} {}: {}", why.state, why.code, why.message).unwrap();
        for blocker in &why.blockers {
            let line = format!("{} {}: {}", blocker.kind, blocker.name, blocker.detail);
            let line = line.replace(&run_id(run).to_string(), run);
            writeln!(self.out, "    {line}").unwrap();
        }
        if !why.remedy.is_empty() {
            writeln!(self.out, "    remedy: {}", why.remedy).unwrap();
        }
    }

    fn waiting(&mut self, run: &str) {
        let waiting = self.world.core.waiting(run_id(run)).expect("a run");
        for waiting in waiting {
            let first = self.world.run(run_id(run)).dag.task_name(waiting.first);
            let Waiting { n_tasks, code, message, remedy, .. } = &waiting;
            writeln!(self.out, "  {n_tasks} from {first}: {code}: {message} ({remedy})").unwrap();
        }
    }

    fn show(&mut self, run: &str) {
        let known = self.world.run(run_id(run));
        let tasks: Vec<String> = known
            .dag
            .tasks()
            .map(|task| format!("{} {}", known.dag.task_name(task), known.cell(task).state))
            .collect();
        writeln!(self.out, "  {run} {}: {}", known.state, tasks.join(", ")).unwrap();
    }

    fn show_workers(&mut self) {
        for worker in self.world.core.state().workers() {
            let (n, ahead) = (worker.n_leases(), worker.n_ahead());
            let (id, status, used) = (&worker.id, worker.status.as_str(), worker.used());
            write!(self.out, "  {id} {status}: {n} leases, {ahead} ahead, uses {used}").unwrap();
            if let Some(since) = worker.throttled_since {
                let seconds = Duration::from_micros(since.0 - 1_000_000_000).as_secs_f64();
                write!(self.out, "; accepts {} since {seconds}s", worker.admission).unwrap();
            }
            self.out.push('\n');
        }
    }

    /// Writes the changes and commands of the last event to the transcript.
    fn transcribe(&mut self) {
        let start = 1_000_000_000;
        for (at, change) in &self.world.log[self.n_logged..] {
            let seconds = Duration::from_micros(at.0 - start).as_secs_f64();
            let line = self.world.describe_change(change);
            writeln!(self.out, "  [{seconds}s] {line}").unwrap();
        }
        self.n_logged = self.world.log.len();
        for command in self.world.take_orders() {
            let line = self.world.describe_command(&command);
            writeln!(self.out, "  -> {line}").unwrap();
        }
    }
}

fn run_id(label: &str) -> RunId {
    RunId::new(Uuid::from_u128(number(label.strip_prefix('r').expect("r1"))))
}

fn read_outcome(text: &str) -> Result<Outputs, Failure> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("ok", _) => Ok(Outputs::default()),
        ("exit", code) => Err(exit_code(number(code))),
        ("signal", number) => Err(Failure::new(Cause::signal(self::number(number)), "")),
        ("raised", exception) => {
            Err(Failure::new(Cause::of(CauseKind::Exception), "").raised(exception))
        }
        ("oom", _) => Err(Failure::of(CauseKind::OutOfMemory)),
        ("timeout", _) => Err(Failure::of(CauseKind::RunTimeout)),
        ("cancelled", _) => Err(Failure::of(CauseKind::Cancelled)),
        (key, value) => Ok(Outputs([(key.into(), Value::from_json(value))].into())),
    }
}

fn read_task(mut script: DagScript, line: &str) -> DagScript {
    let mut words = line.split_whitespace();
    script = script.task(words.next().expect("a task has a name"));
    let mut resources = Vec::new();
    let (mut attempts, mut wait) = (None, Duration::ZERO);
    while let Some(word) = words.next() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let parts: Vec<&str> = value.split(':').collect();
        script = match key {
            "after" => words.by_ref().fold(script, |script, task| script.after(task)),
            "needs" => read_need(script, &parts),
            "trigger" => script.trigger(find(&Trigger::ALL, value)),
            "if" => script.condition(value),
            "exec" => script.exec(&["true"]),
            "attempts" => {
                attempts = Some(number(value));
                script
            }
            "wait" => {
                wait = span(value);
                script
            }
            "takes" => script.estimate(span(value)),
            "key" => script.key(parts[0], number(parts[1])),
            "circuit" => script.circuit(parts[0], number(parts[1]), span(parts[2])),
            "queue" => script.queue_timeout(span(value)),
            "start" => script.start_timeout(span(value)),
            "run" => script.run_timeout(span(value)),
            "priority" => script.priority(number(value)),
            "on" => script.on(parts[0], parts[1]),
            "prefers" => script.preferring(parts[0], parts[1]),
            "crash_limit" => script.crash_limit(number(value)),
            "retries" => script.retried_on_exception(value),
            "has" => script.having(value),
            "memory_factor" => script.memory_factor(number(value)),
            "memory_max" => script.memory_max(number(value)),
            _ => {
                resources.push(word);
                script
            }
        };
    }
    if let Some(n) = attempts {
        script = script.attempts(n, wait);
    }
    if resources.is_empty() { script } else { script.resources(&resources.join(" ")) }
}

/// Parses `task:when:kind:5s`, where the last three parts are optional.
fn read_need(script: DagScript, parts: &[&str]) -> DagScript {
    let when = parts.get(1).map_or(When::default(), |word| find(&When::ALL, word));
    let kind =
        parts.get(2).map_or(DependencyKind::default(), |word| find(&DependencyKind::ALL, word));
    let script = script.needs(parts[0], when, kind);
    match parts.get(3) {
        Some(timeout) => script.within(span(timeout)),
        None => script,
    }
}

/// Returns the value whose name in the code is `word`, ignoring case and underscores.
fn find<T: Copy + std::fmt::Debug>(all: &[T], word: &str) -> T {
    let plain = word.replace('_', "");
    let found = all.iter().find(|item| format!("{item:?}").eq_ignore_ascii_case(&plain));
    *found.unwrap_or_else(|| panic!("unknown word {word}"))
}
