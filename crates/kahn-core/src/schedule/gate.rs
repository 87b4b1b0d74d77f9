//! Limits that hold a lane back even if there is room.

use kahn_model::RunState;

use crate::core::Core;
use crate::state::{Gate, LaneIx};

impl Core {
    /// Returns the first closed gate of a lane. All limits of a task are checked together, and
    /// acquired together when its lease is granted.
    pub(crate) fn gate_of(&self, lane: LaneIx) -> Option<Gate> {
        let lane = self.state.ready.lane(lane);
        let run = &self.state.runs[lane.run.0];
        let is_at_limit = run.dag.policy().max_parallel.is_some_and(|max| run.n_held >= max);
        if run.state == RunState::Paused || is_at_limit {
            return Some(Gate::Run(lane.run));
        }
        let class = self.state.classes.get(lane.class);
        for limit in &class.concurrency {
            let key = (lane.namespace, limit.key.clone());
            if self.state.gates.key_use(&key) >= limit.limit {
                return Some(Gate::Key(key));
            }
        }
        let circuit = class.circuit.as_ref()?;
        let key = (lane.namespace, circuit.key.clone());
        let admits = self.state.gates.breaker(&key).admits(self.state.now);
        (!admits).then_some(Gate::Breaker(key))
    }
}
