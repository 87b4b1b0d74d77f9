//! Builds DAGs for tests. Most methods modify the task added last.

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

/// A builder for a DAG.
#[derive(Clone, Debug, Default)]
pub struct DagScript {
    policy: RunPolicy,
    tasks: Vec<NewTask>,
    needs: Vec<Need>,
}

/// Creates a builder without tasks.
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

    /// Makes the task run a process.
    #[must_use]
    pub fn exec(mut self, argv: &[&str]) -> Self {
        let argv = argv.iter().map(|text| Text::new(*text)).collect();
        self.last().work.action = Action::Exec { argv };
        self
    }

    /// Makes the task sleep, which also sets its known duration.
    #[must_use]
    pub fn sleep(mut self, duration: Duration) -> Self {
        self.last().work.action = Action::Sleep { duration };
        self
    }

    /// Makes the task depend on the success of `dependency`.
    #[must_use]
    pub fn after(self, dependency: &str) -> Self {
        self.needs(dependency, When::Succeeded, DependencyKind::Required)
    }

    /// Adds a dependency of the task with these settings.
    #[must_use]
    pub fn needs(mut self, dependency: &str, when: When, kind: DependencyKind) -> Self {
        let dependent = self.tasks.len() - 1;
        let dependency = dependency.to_owned();
        self.needs.push(Need { dependent, dependency, when, kind, timeout: None });
        self
    }

    /// Sets the timeout of the dependency added last.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.last_need().timeout = Some(timeout);
        self
    }

    /// Sets the task's trigger.
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.last().trigger = trigger;
        self
    }

    /// Sets the task's condition.
    #[must_use]
    pub fn condition(mut self, expression: &str) -> Self {
        self.last().condition = Some(Condition(expression.into()));
        self
    }

    /// Sets the task's estimated duration.
    #[must_use]
    pub fn estimate(mut self, span: Duration) -> Self {
        self.last().estimate = Some(span);
        self
    }

    /// Sets the task's resources, such as `cpu=1 memory=1Gi`.
    #[must_use]
    pub fn resources(mut self, text: &str) -> Self {
        self.last().profile.resources = resources(text);
        self
    }

    /// Requires workers whose label has this value.
    #[must_use]
    pub fn on(mut self, key: &str, value: &str) -> Self {
        let rule = LabelRule::In { key: key.into(), values: vec![value.into()] };
        self.last().profile.selector.required.push(rule);
        self
    }

    /// Prefers workers whose label has this value.
    #[must_use]
    pub fn preferring(mut self, key: &str, value: &str) -> Self {
        let rule = LabelRule::In { key: key.into(), values: vec![value.into()] };
        self.last().profile.selector.preferred.push(rule);
        self
    }

    /// Sets the maximum number of attempts and the fixed delay between them.
    #[must_use]
    pub fn attempts(mut self, max_attempts: u32, wait: Duration) -> Self {
        let retry = &mut self.last().profile.retry;
        retry.max_attempts = max_attempts;
        retry.backoff =
            Backoff { kind: BackoffKind::Fixed, initial: wait, max: wait, jitter: false };
        self
    }

    /// Restricts retries to these causes.
    #[must_use]
    pub fn retried_on(mut self, causes: &[CauseKind]) -> Self {
        self.last().profile.retry.on =
            causes.iter().fold(CauseSet::EMPTY, |set, cause| set.with(*cause));
        self
    }

    /// Restricts retries to exceptions of this type.
    ///
    /// # Panics
    ///
    /// Panics if `pattern` is not a valid exception pattern.
    #[must_use]
    pub fn retried_on_exception(mut self, pattern: &str) -> Self {
        let profile = &mut self.last().profile;
        profile.retry.on = CauseSet::EMPTY;
        profile.retry_exceptions.push(pattern.parse().expect("a pattern"));
        self
    }

    /// Requires workers that have this label with any value.
    #[must_use]
    pub fn having(mut self, label: &str) -> Self {
        let rule = LabelRule::Exists { key: label.into() };
        self.last().profile.selector.required.push(rule);
        self
    }

    /// Sets the factor, in thousandths, by which the memory grows after an attempt ran out of it.
    #[must_use]
    pub fn memory_factor(mut self, thousandths: u32) -> Self {
        self.last().profile.retry.memory = Multiplier(thousandths);
        self
    }

    /// Sets the limit of that growth, in bytes.
    #[must_use]
    pub fn memory_max(mut self, bytes: u64) -> Self {
        self.last().profile.retry.memory_max = Some(bytes);
        self
    }

    /// Sets how often the task may be lost before it fails.
    #[must_use]
    pub fn crash_limit(mut self, limit: u32) -> Self {
        self.last().profile.retry.crash_limit = limit;
        self
    }

    /// Sets the queue timeout.
    #[must_use]
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.last().profile.timeouts.queue = Some(timeout);
        self
    }

    /// Sets the start timeout.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.last().profile.timeouts.start = Some(timeout);
        self
    }

    /// Sets the run timeout.
    #[must_use]
    pub fn run_timeout(mut self, timeout: Duration) -> Self {
        self.last().profile.timeouts.run = Some(timeout);
        self
    }

    /// Sets the task's priority.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.last().profile.priority = priority;
        self
    }

    /// Adds a concurrency key with this limit.
    #[must_use]
    pub fn key(mut self, key: &str, limit: u32) -> Self {
        self.last().profile.concurrency.push(ConcurrencyKey { key: name(key), limit });
        self
    }

    /// Sets the task's circuit breaker.
    #[must_use]
    pub fn circuit(mut self, key: &str, failures: u32, cool_down: Duration) -> Self {
        self.last().profile.circuit = Some(Circuit { key: name(key), failures, cool_down });
        self
    }

    /// Makes the run stop at the first failure.
    #[must_use]
    pub fn fail_fast(mut self) -> Self {
        self.policy.on_failure = FailurePolicy::FailFast;
        self
    }

    /// Makes the run stop after this many failures.
    #[must_use]
    pub fn max_failures(mut self, n: u32) -> Self {
        self.policy.on_failure = FailurePolicy::MaxFailures(n);
        self
    }

    /// Sets the maximum number of leases of the run.
    #[must_use]
    pub fn max_parallel(mut self, n: u32) -> Self {
        self.policy.max_parallel = Some(n);
        self
    }

    /// Sets the run's deadline.
    #[must_use]
    pub fn run_deadline(mut self, timeout: Duration) -> Self {
        self.policy.timeout = Some(timeout);
        self
    }

    /// Sets the run's priority.
    #[must_use]
    pub fn run_priority(mut self, priority: i32) -> Self {
        self.policy.priority = priority;
        self
    }

    /// Builds the DAG.
    ///
    /// # Panics
    ///
    /// Panics if the DAG is invalid.
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

/// Parses resources such as `cpu=2 memory=4Gi`.
pub(super) fn resources(text: &str) -> Resources {
    text.parse().expect("a test uses valid resources")
}
