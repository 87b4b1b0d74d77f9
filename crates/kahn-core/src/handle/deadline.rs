//! Handles timers that are due.

use kahn_model::{
    Cause, CauseKind, DependencyKind, Failure, RunId, TaskIx, TaskState, Token, Trigger,
};

use crate::change::Change;
use crate::command::StopReason;
use crate::core::Core;
use crate::state::{ClassIx, Gate, LeaseIx, LeasePhase, Timer};

impl Core {
    pub(crate) fn on_deadline_reached(&mut self) {
        while let Some(timer) = self.state.timers.pop_due(self.state.now) {
            self.on_timer(timer);
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Silence(worker) => self.on_silence(worker),
            Timer::Backoff(run, task) => self.on_backoff_ended(run, task),
            Timer::Queue(run, task, age) => self.on_queue_timeout(run, task, age),
            Timer::Start(run, task, token) => self.on_start_timeout(run, task, token),
            Timer::Run(run, task, token) => self.on_run_timeout(run, task, token),
            Timer::Deadline(run) => self.on_run_deadline(run),
            Timer::Dependency(run, dependent, dependency) => {
                self.on_dependency_timeout(run, dependent, dependency);
            }
            Timer::Infeasible(class) => self.on_infeasible(class),
            Timer::CoolDown(key) => {
                for lane in self.state.gates.unpark(&Gate::Breaker(key)) {
                    self.state.ready.unpark(lane);
                }
            }
        }
    }

    fn task_state(&self, run: RunId, task: TaskIx) -> Option<TaskState> {
        self.state.run(run).map(|known| known.cell(task).state)
    }

    fn on_backoff_ended(&mut self, run: RunId, task: TaskIx) {
        let until = self.state.run(run).and_then(|known| known.backoff_ends(task));
        if until.is_some_and(|until| until <= self.state.now) {
            self.emit(Change::BackoffEnded { run, task });
        }
    }

    fn on_queue_timeout(&mut self, run: RunId, task: TaskIx, age: u32) {
        if let Some(lease_ix) = self.lease_ahead_of(run, task, age) {
            // The task waits on a worker behind attempts that take longer than expected.
            self.give_up(lease_ix, CauseKind::QueueTimeout);
            return;
        }
        let is_same_wait = self.state.run(run).is_some_and(|known| {
            let cell = known.cell(task);
            cell.state == TaskState::Ready && cell.age() == age
        });
        if is_same_wait {
            let why = self.explain(run, task);
            // The task waited for the breaker until its timeout.
            let kind = match &why {
                Some(why) if why.code == "circuit_open" => CauseKind::CircuitOpen,
                _ => CauseKind::QueueTimeout,
            };
            let message = why.map(|why| why.message).unwrap_or_default();
            let failure = Failure::new(Cause::of(kind), &message);
            self.emit(Change::TaskFailed { run, task, failure });
        }
    }

    /// Returns the lease that waits for room and whose task had this age in the ready set.
    fn lease_ahead_of(&self, run: RunId, task: TaskIx, age: u32) -> Option<LeaseIx> {
        let lease_ix = self.state.run(run)?.cell(task).lease()?;
        let lease = &self.state.leases[lease_ix.0];
        let is_it = lease.phase == LeasePhase::Ahead && lease.age == age && !lease.is_stopping;
        is_it.then_some(lease_ix)
    }

    fn on_start_timeout(&mut self, run: RunId, task: TaskIx, token: Token) {
        let Some(lease_ix) = self.state.find_lease(run, task, token) else { return };
        let lease = &self.state.leases[lease_ix.0];
        if lease.phase != LeasePhase::Started && lease.exceeded.is_none() {
            self.give_up(lease_ix, CauseKind::StartTimeout);
        }
    }

    /// Stops an attempt that exceeded its queue or start timeout. It may be about to start, so it
    /// fails only once its worker confirms the end; otherwise two attempts could run at a time.
    ///
    /// The request is not durable. After a takeover, an attempt that never started is returned, and
    /// one that did ends as its worker reports it.
    fn give_up(&mut self, lease_ix: LeaseIx, timeout: CauseKind) {
        self.state.leases[lease_ix.0].exceeded = Some(timeout);
        self.stop(lease_ix, StopReason::TimedOut);
    }

    /// The worker should have ended the attempt by itself. It is asked to stop it, and is not
    /// considered lost until it reports or stays silent.
    fn on_run_timeout(&mut self, run: RunId, task: TaskIx, token: Token) {
        if let Some(lease_ix) = self.state.find_lease(run, task, token) {
            self.stop(lease_ix, StopReason::TimedOut);
        }
    }

    fn on_run_deadline(&mut self, run: RunId) {
        let Some(known) = self.state.run(run) else { return };
        if known.state.is_terminal() || known.cancelled.is_some() {
            return;
        }
        let Some(timeout) = known.dag.policy().timeout else { return };
        if known.begun_at + timeout > self.state.now {
            return;
        }
        let message = format!("the run did not end within {timeout:?}");
        let failure = Failure::new(Cause::of(CauseKind::Deadline), &message);
        self.emit(Change::RunCancelled { run, failure });
    }

    fn on_dependency_timeout(&mut self, run: RunId, dependent: TaskIx, dependency: TaskIx) {
        let Some(known) = self.state.run(run) else { return };
        let waits = known.cell(dependent).state == TaskState::Pending
            && known.waiting_since.contains_key(&dependent);
        let is_over = known.waiting_since.get(&dependent).is_some_and(|since| {
            let timeout = known.dag.dependency_timeout(dependent, dependency).unwrap_or_default();
            *since + timeout <= self.state.now
        });
        let edge = known.dag.dependencies(dependent).find(|edge| edge.task == dependency);
        let Some(edge) = edge else { return };
        if !waits || !is_over || !crate::apply::is_open(known, dependent, &edge) {
            return;
        }
        let is_required = edge.kind == DependencyKind::Required;
        let needs_all =
            matches!(known.dag.trigger(dependent), Trigger::AllSucceeded | Trigger::NoneFailed);
        if is_required && needs_all {
            let name = known.dag.task_name(dependency);
            let message = format!("waited too long for its dependency {name}");
            let failure = Failure::new(Cause::of(CauseKind::Dependency), &message);
            self.emit(Change::TaskFailed { run, task: dependent, failure });
        } else {
            self.emit(Change::DependencyExpired { run, dependent, dependency });
        }
    }

    /// Fails the tasks of a class that no worker suits, unless a suitable worker has attached.
    fn on_infeasible(&mut self, class: ClassIx) {
        self.state.pool.watched.remove(&class);
        let Some(shortage) = self.infeasibility(class) else { return };
        let lanes: Vec<_> = self
            .state
            .ready
            .lanes()
            .filter(|(_, lane)| lane.class == class)
            .map(|(_, lane)| (lane.run, lane.tasks().collect::<Vec<_>>()))
            .collect();
        for (run_ix, tasks) in lanes {
            let run = self.state.runs[run_ix.0].id();
            for task in tasks {
                if self.task_state(run, task) == Some(TaskState::Ready) {
                    let failure = Failure::new(Cause::of(CauseKind::Infeasible), &shortage);
                    self.emit(Change::TaskFailed { run, task, failure });
                }
            }
        }
    }
}
