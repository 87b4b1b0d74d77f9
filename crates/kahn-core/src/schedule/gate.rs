//! What holds a lane back, be there room or not.

use kahn_model::RunState;

use crate::core::Core;
use crate::state::{Gate, LaneIx};

impl Core {
    /// The first gate that is shut for a lane. All of a task's limits are looked at together and
    /// taken together when the lease is granted.
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
