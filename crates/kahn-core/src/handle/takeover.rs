//! Starts a term: takes over the state left by earlier coordinators.
//!
//! Timers that expired during the takeover are not enforced, because the coordinator caused the
//! silence. Workers, attempts and ready tasks get their full time again.

use std::sync::Arc;

use kahn_model::{RunId, TaskIx, TaskState};

use crate::command::Command;
use crate::core::Core;
use crate::state::{Effects, Flags, LeaseIx, Run, RunIx, State, Timer, WorkerIx, WorkerStatus};

impl Core {
    /// Implements [`Core::begin`].
    pub(crate) fn resume_after_takeover(&mut self) {
        self.state.timers.clear();
        self.state.pool.watched.clear();
        self.state.effects = Effects::default();
        self.expect_workers();
        self.state.restart_clocks();
        let live = self.state.runs().filter(|run| !run.state.is_terminal());
        let unanswered: Vec<(RunId, TaskIx)> = live.flat_map(unanswered).collect();
        for (run, task) in unanswered {
            self.command(Command::Evaluate { run, task });
        }
    }

    /// Waits for the workers that hold leases.
    fn expect_workers(&mut self) {
        let now = self.state.now;
        for at in 0..self.state.workers.len() {
            let ix = WorkerIx(u32::try_from(at).expect("invariant: below 2^32 workers"));
            let worker = &mut self.state.workers[at];
            worker.has_silence_timer = false;
            if !worker.leases.is_empty() {
                worker.heard_at = now;
                worker.status = WorkerStatus::Suspect;
                self.watch_silence(ix);
            }
        }
    }
}

/// Returns the tasks of a run whose evaluation was requested but not answered.
fn unanswered(run: &Run) -> impl Iterator<Item = (RunId, TaskIx)> {
    let is_unanswered = |task: &TaskIx| {
        let cell = run.cell(*task);
        cell.state == TaskState::Pending
            && cell.flags.has(Flags::EVALUATING)
            && !cell.flags.has(Flags::EVALUATED)
    };
    run.dag.tasks().filter(is_unanswered).map(|task| (run.id(), task))
}

impl State {
    fn restart_clocks(&mut self) {
        for (key, breaker) in self.gates.breakers() {
            if let Some(until) = breaker.open_until {
                self.timers.set(until, Timer::CoolDown(key.clone()));
            }
        }
        let leases: Vec<LeaseIx> = self.leases.iter().map(|(at, _)| LeaseIx(at)).collect();
        for lease in leases {
            self.watch_over(lease);
        }
        let live: Vec<RunIx> = self
            .run_ix
            .values()
            .copied()
            .filter(|ix| !self.runs[ix.0].state.is_terminal())
            .collect();
        for run in live {
            self.restart_clocks_of(run);
        }
    }

    fn restart_clocks_of(&mut self, ix: RunIx) {
        let run = &self.runs[ix.0];
        let (id, dag) = (run.id(), Arc::clone(&run.dag));
        if let Some(timeout) = dag.policy().timeout {
            self.timers.set(run.begun_at + timeout, Timer::Deadline(id));
        }
        for (task, until) in &run.backoffs {
            self.timers.set(*until, Timer::Backoff(id, *task));
        }
        // The dependency may have ended in the meantime; its worker must have time to report that.
        let earliest = self.now + self.settings.lease_ttl;
        for (task, since) in &run.waiting_since {
            for (dependency, timeout) in dag.timed_dependencies(*task) {
                let due = earliest.max(*since + timeout);
                self.timers.set(due, Timer::Dependency(id, *task, dependency));
            }
        }
        for task in dag.tasks() {
            if self.runs[ix.0].cell(task).state == TaskState::Ready {
                self.watch_queue(ix, task);
            }
        }
    }
}
