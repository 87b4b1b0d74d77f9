//! Placement: assigns ready tasks to workers.
//!
//! A pass considers the best head of each class, ordered by fair share between namespaces,
//! priority, b-level and age, and groups of workers with the same shape. It does not iterate over
//! all tasks, nor over all workers if many have the same shape.

mod choose;
mod fairness;
mod feasible;
mod gate;
mod pool;
mod prefetch;
mod recall;
mod reserve;

use kahn_model::TaskIx;

pub use feasible::shortage;
pub(crate) use pool::Pool;

use crate::change::Change;
use crate::command::{Command, Grant};
use crate::core::Core;
use crate::state::{LaneIx, WorkerIx};
use reserve::Reservations;

/// Intermediate results of one pass.
#[derive(Debug, Default)]
struct Pass {
    reservations: Reservations,
    n_granted: usize,
}

impl Core {
    /// Returns whether the last pass ended because of its limit rather than for lack of room.
    #[must_use]
    pub fn has_more_to_place(&self) -> bool {
        self.state.pool.has_more
    }

    /// Grants leases as long as workers have room.
    pub(crate) fn schedule(&mut self) {
        self.state.refresh_pool();
        self.state.pool.has_more = false;
        if self.state.pool.is_empty() {
            return;
        }
        let mut pass = Pass::default();
        loop {
            self.fill_room(&mut pass);
            if self.has_void_reservation(&pass) {
                pass.reservations = Reservations::default();
                continue;
            }
            let n_before = pass.n_granted;
            self.fill_ahead(&mut pass);
            if pass.n_granted == n_before || pass.reservations.is_empty() {
                break;
            }
            // Tasks that were granted ahead have a worker now, so their reservations are no longer
            // needed. Those of waiting tasks are: without them, a lease that was granted ahead
            // because of one would be recalled for the reserved worker at once, and so on forever.
            let ready = &self.state.ready;
            pass.reservations.retain(|class| ready.waits(class));
        }
        if pass.n_granted >= self.state.settings.grants_per_pass {
            self.state.pool.has_more = true;
        } else {
            self.recall_for_idle_workers(&pass);
        }
    }

    fn fill_room(&mut self, pass: &mut Pass) {
        let mut queue = self.namespace_queue();
        while pass.n_granted < self.state.settings.grants_per_pass {
            let Some((class, lane)) = self.next_lane(&mut queue) else { return };
            if self.park_if_gated(lane) {
                continue;
            }
            match self.choose(class, &pass.reservations) {
                Some(worker) => {
                    self.grant(lane, worker);
                    self.requeue_first(&mut queue);
                    pass.n_granted += 1;
                }
                None => {
                    queue.exclude(class);
                    self.schedule_watch_over(class);
                    if self.next_lane(&mut queue).is_some() {
                        self.reserve_for(class, lane, pass);
                    }
                }
            }
        }
    }

    /// Parks a lane if a gate holds it back. The lane is not considered again until the gate opens.
    fn park_if_gated(&mut self, lane: LaneIx) -> bool {
        let Some(gate) = self.gate_of(lane) else { return false };
        self.state.ready.park(lane, gate.clone());
        self.state.gates.park(gate, lane);
        true
    }

    /// Grants the head of a lane to a worker.
    fn grant(&mut self, lane: LaneIx, worker: WorkerIx) {
        let lane = self.state.ready.lane(lane);
        let (_, task) = lane.head().expect("invariant: open lanes are not empty");
        let run_ix = lane.run;
        let token = self.mint();
        let run = &self.state.runs[run_ix.0];
        let to = &self.state.workers[worker.index()];
        let change = Change::LeaseGranted {
            run: run.id(),
            task,
            number: u32::from(run.cell(task).attempt) + 1,
            token,
            worker: to.id.clone(),
            boot: to.boot,
        };
        let session = to.session;
        self.emit(change);
        self.state.refresh_worker(worker);
        let grant = Box::new(self.describe_grant(run_ix.0, task));
        if let Some(session) = session {
            self.command(Command::Grant { session, grant });
        }
    }

    fn describe_grant(&self, run: u32, task: TaskIx) -> Grant {
        let run = &self.state.runs[run];
        let lease = self.state.lease_of(run, task).expect("invariant: just granted");
        Grant {
            attempt: lease.attempt(),
            token: lease.token,
            namespace: run.submission.namespace.clone(),
            dag: std::sync::Arc::clone(&run.dag),
            work: std::sync::Arc::clone(run.work(task)),
            resources: std::sync::Arc::clone(&lease.resources),
            timed_out: run.overruns.get(&task).map_or(0, |overruns| overruns.time),
        }
    }
}
