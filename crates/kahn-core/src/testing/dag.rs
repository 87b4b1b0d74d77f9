//! A DAG, task after task. What follows a task is about that task.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{
    Action, Backoff, BackoffKind, CauseKind, CauseSet, Circuit, ConcurrencyKey, Condition, Dag,
    DagBuilder, DependencyKind, FailurePolicy, LabelRule, Multiplier, Name, NewTask, Resources,
    RunPolicy, TaskIx, Text, Trigger, When, Work,
};

#[derive(Clone, Debug)]
struct Need {
    dependent: usize,
    dependency: String,
    when: When,
    kind: DependencyKind,
    timeout: Option<Duration>,
}

/// A DAG to be.
#[derive(Clone, Debug, Default)]
pub struct DagScript {
    policy: RunPolicy,
    tasks: Vec<NewTask>,
    needs: Vec<Need>,
}

/// A DAG without tasks.
#[must_use]
pub fn dag() -> DagScript {
    DagScript::default()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a test uses valid names")
}

impl DagScript {
    /// Adds a task that does nothing.
    #[must_use]
    pub fn task(mut self, task: &str) -> Self {
        self.tasks.push(NewTask::new(name(task), Work::new(Action::Noop)));
        self
    }

    fn last(&mut self) -> &mut NewTask {
        self.tasks.last_mut().expect("a task comes first")
    }

    fn last_need(&mut self) -> &mut Need {
        self.needs.last_mut().expect("a dependency comes first")
    }

    /// The task is carried out by a process.
    #[must_use]
    pub fn exec(mut self, argv: &[&str]) -> Self {
        let argv = argv.iter().map(|text| Text::new(*text)).collect();
        self.last().work.action = Action::Exec { argv };
        self
    }

    /// The task sleeps, and so is known to take this long.
    #[must_use]
    pub fn sleep(mut self, duration: Duration) -> Self {
        self.last().work.action = Action::Sleep { duration };
        self
    }

    /// The task needs `dependency` to succeed.
    #[must_use]
    pub fn after(self, dependency: &str) -> Self {
        self.needs(dependency, When::Succeeded, DependencyKind::Required)
    }

    /// The task depends on `dependency` in this way.
    #[must_use]
    pub fn needs(mut self, dependency: &str, when: When, kind: DependencyKind) -> Self {
        let dependent = self.tasks.len() - 1;
        let dependency = dependency.to_owned();
        self.needs.push(Need { dependent, dependency, when, kind, timeout: None });
        self
    }

    /// The latest dependency may hold the task back for this long.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.last_need().timeout = Some(timeout);
        self
    }

    /// The task has this trigger.
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.last().trigger = trigger;
        self
    }

    /// The task has this condition.
    #[must_use]
    pub fn condition(mut self, expression: &str) -> Self {
        self.last().condition = Some(Condition(expression.into()));
        self
    }

    /// The task is expected to take this long.
    #[must_use]
    pub fn estimate(mut self, span: Duration) -> Self {
        self.last().estimate = Some(span);
        self
    }

    /// The task asks for `cpu=1 memory=1Gi` and the like.
    #[must_use]
    pub fn resources(mut self, text: &str) -> Self {
        self.last().profile.resources = resources(text);
        self
    }

    /// The task runs only where this label has this value.
    #[must_use]
    pub fn on(mut self, key: &str, value: &str) -> Self {
        let rule = LabelRule::In { key: key.into(), values: vec![value.into()] };
        self.last().profile.selector.required.push(rule);
        self
    }

    /// The task rather runs where this label has this value.
    #[must_use]
    pub fn preferring(mut self, key: &str, value: &str) -> Self {
        let rule = LabelRule::In { key: key.into(), values: vec![value.into()] };
        self.last().profile.selector.preferred.push(rule);
        self
    }

    /// The task is tried this often, with this fixed wait in between.
    #[must_use]
    pub fn attempts(mut self, max_attempts: u32, wait: Duration) -> Self {
        let retry = &mut self.last().profile.retry;
        retry.max_attempts = max_attempts;
        retry.backoff =
            Backoff { kind: BackoffKind::Fixed, initial: wait, max: wait, jitter: false };
        self
    }

    /// The task is tried again only after these causes.
    #[must_use]
    pub fn retried_on(mut self, causes: &[CauseKind]) -> Self {
        self.last().profile.retry.on =
            causes.iter().fold(CauseSet::EMPTY, |set, cause| set.with(*cause));
        self
    }

    /// The task is tried again only after exceptions of this type.
    ///
    /// # Panics
    ///
    /// When `pattern` names no exceptions.
    #[must_use]
    pub fn retried_on_exception(mut self, pattern: &str) -> Self {
        let profile = &mut self.last().profile;
        profile.retry.on = CauseSet::EMPTY;
        profile.retry_exceptions.push(pattern.parse().expect("a pattern"));
        self
    }

    /// The task asks for a worker that has this label, whatever its value.
    #[must_use]
    pub fn having(mut self, label: &str) -> Self {
        let rule = LabelRule::Exists { key: label.into() };
        self.last().profile.selector.required.push(rule);
        self
    }

    /// The task asks for more memory, in thousandths, after it ran out.
    #[must_use]
    pub fn memory_factor(mut self, thousandths: u32) -> Self {
        self.last().profile.retry.memory = Multiplier(thousandths);
        self
    }

    /// That stops at so many bytes.
    #[must_use]
    pub fn memory_max(mut self, bytes: u64) -> Self {
        self.last().profile.retry.memory_max = Some(bytes);
        self
    }

    /// The task is given up after it was lost this often.
    #[must_use]
    pub fn crash_limit(mut self, limit: u32) -> Self {
        self.last().profile.retry.crash_limit = limit;
        self
    }

    /// The task fails when it was ready for this long.
    #[must_use]
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.last().profile.timeouts.queue = Some(timeout);
        self
    }

    /// The attempt fails when it has not started after this long.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.last().profile.timeouts.start = Some(timeout);
        self
    }

    /// The attempt is stopped when it ran for this long.
    #[must_use]
    pub fn run_timeout(mut self, timeout: Duration) -> Self {
        self.last().profile.timeouts.run = Some(timeout);
        self
    }

    /// The task goes before those of lower priority in its run.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.last().profile.priority = priority;
        self
    }

    /// The task holds this key, which at most `limit` attempts may.
    #[must_use]
    pub fn key(mut self, key: &str, limit: u32) -> Self {
        self.last().profile.concurrency.push(ConcurrencyKey { key: name(key), limit });
        self
    }

    /// The task uses this breaker.
    #[must_use]
    pub fn circuit(mut self, key: &str, failures: u32, cool_down: Duration) -> Self {
        self.last().profile.circuit = Some(Circuit { key: name(key), failures, cool_down });
        self
    }

    /// The run ends with the first failure.
    #[must_use]
    pub fn fail_fast(mut self) -> Self {
        self.policy.on_failure = FailurePolicy::FailFast;
        self
    }

    /// The run ends with this many failures.
    #[must_use]
    pub fn max_failures(mut self, n: u32) -> Self {
        self.policy.on_failure = FailurePolicy::MaxFailures(n);
        self
    }

    /// The run holds at most this many leases.
    #[must_use]
    pub fn max_parallel(mut self, n: u32) -> Self {
        self.policy.max_parallel = Some(n);
        self
    }

    /// The run has this deadline.
    #[must_use]
    pub fn run_deadline(mut self, timeout: Duration) -> Self {
        self.policy.timeout = Some(timeout);
        self
    }

    /// The run goes before those of lower priority.
    #[must_use]
    pub fn run_priority(mut self, priority: i32) -> Self {
        self.policy.priority = priority;
        self
    }

    /// The DAG.
    ///
    /// # Panics
    ///
    /// When it is none: the test is wrong.
    #[must_use]
    pub fn build(&self) -> Arc<Dag> {
        let mut builder = DagBuilder::new(name("dag"), self.policy.clone());
        for task in &self.tasks {
            builder.task(task.clone()).expect("a test DAG is small");
        }
        for need in &self.needs {
            let at = self.tasks.iter().position(|task| task.name.as_str() == need.dependency);
            let dependency = TaskIx::from_index(at.expect("a dependency exists"));
            let dependent = TaskIx::from_index(need.dependent);
            builder.depends(dependent, dependency, need.when, need.kind, need.timeout);
        }
        Arc::new(builder.build().expect("a test DAG has no cycle"))
    }
}

/// Reads `cpu=2 memory=4Gi`.
pub(super) fn resources(text: &str) -> Resources {
    text.parse().expect("a test uses valid resources")
}
