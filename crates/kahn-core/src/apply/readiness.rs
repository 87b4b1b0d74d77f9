//! Adds tasks to the ready set and removes them.

use std::cmp::Reverse;
use std::sync::Arc;

use kahn_model::{Dag, Namespace, Resource, Resources, TaskIx, TaskState, Timestamp};

use crate::history::RecordKind;
use crate::state::{Class, ClassIx, Gate, LaneIx, Rank, Run, RunIx, State, Timer, secret_of};

impl State {
    pub(super) fn make_ready(&mut self, ix: RunIx, task: TaskIx) {
        self.runs[ix.0].set_state(task, TaskState::Ready);
        let age = self.ready.next_age();
        self.enter_ready(ix, task, age, self.now);
        self.watch_queue(ix, task);
        self.record(ix, RecordKind::TaskReady, Some(task), None);
    }

    /// Adds a task that is in state [`TaskState::Ready`] since `since` to the ready set.
    pub(crate) fn enter_ready(&mut self, ix: RunIx, task: TaskIx, age: u32, since: Timestamp) {
        let lane = self.lane_of(ix, task);
        self.runs[ix.0].cell_mut(task).set_age(age);
        let rank = rank(&self.runs[ix.0], task);
        self.ready.insert(lane, rank, task, since);
    }

    /// Starts the queue timeout of a ready task.
    pub(crate) fn watch_queue(&mut self, ix: RunIx, task: TaskIx) {
        let run = &self.runs[ix.0];
        if let Some(timeout) = run.dag.profile(task).timeouts.queue {
            let timer = Timer::Queue(run.id(), task, run.cell(task).age());
            self.timers.set(self.now + timeout, timer);
        }
    }

    /// Removes a task from the ready set, and returns since when it was ready. The caller sets its
    /// next state.
    pub(super) fn leave_ready(&mut self, ix: RunIx, task: TaskIx) -> Timestamp {
        let lane = self.lane_of(ix, task);
        let rank = rank(&self.runs[ix.0], task);
        self.ready.remove(lane, rank, task)
    }

    pub(super) fn open_gate(&mut self, gate: &Gate) {
        for lane in self.gates.unpark(gate) {
            self.ready.unpark(lane);
        }
    }

    fn lane_of(&mut self, ix: RunIx, task: TaskIx) -> LaneIx {
        let class = self.class_of(ix, task);
        let run = &mut self.runs[ix.0];
        if let Some(lane) = run.lanes.get(&class) {
            return *lane;
        }
        let lane = self.ready.add_lane(ix, run.namespace, class);
        run.lanes.insert(class, lane);
        lane
    }

    /// Returns the class of a task: the one of its profile, with more memory if it ran out of
    /// memory.
    pub(crate) fn class_of(&mut self, ix: RunIx, task: TaskIx) -> ClassIx {
        let run = &self.runs[ix.0];
        let kind = run.dag.work(task).action.kind();
        let position = u32::try_from(run.dag.profile_index(task)).expect("invariant: few profiles");
        let grown = run.overruns.get(&task).map_or(0, |overruns| overruns.memory);
        if grown > 0 {
            let class = describe_class(&run.dag, &run.submission.namespace, task, grown);
            return self.classes.intern(class);
        }
        if let Some(class) = run.classes.get(&(position, kind)) {
            return *class;
        }
        let class = describe_class(&run.dag, &run.submission.namespace, task, 0);
        let class = self.classes.intern(class);
        self.runs[ix.0].classes.insert((position, kind), class);
        class
    }
}

/// What the first attempt of a task asks for in a run of `namespace`.
pub(crate) fn class_of_first_attempt(dag: &Dag, namespace: &Namespace, task: TaskIx) -> Class {
    describe_class(dag, namespace, task, 0)
}

/// What a task asks for whose attempts ran out of memory `grown` times.
fn describe_class(dag: &Dag, namespace: &Namespace, task: TaskIx, grown: u32) -> Class {
    let profile = dag.profile(task);
    let mut resources: Resources = profile.resources.clone();
    let memory = resources.get(&Resource::Memory);
    resources.set(&Resource::Memory, profile.retry.memory_after(memory, grown));
    let uses_secrets = profile.selector.required.iter().any(|rule| secret_of(rule).is_some());
    Class {
        resources: Arc::new(resources),
        selector: profile.selector.clone(),
        kind: dag.work(task).action.kind(),
        concurrency: profile.concurrency.clone(),
        circuit: profile.circuit.clone(),
        secrets_of: uses_secrets.then(|| namespace.clone()),
    }
}

/// Returns the rank of a ready task.
pub(crate) fn rank(run: &Run, task: TaskIx) -> Rank {
    Rank {
        run_priority: Reverse(run.dag.policy().priority),
        task_priority: Reverse(run.dag.profile(task).priority),
        b_level: Reverse(run.b_level(task)),
        age: run.cell(task).age(),
    }
}
