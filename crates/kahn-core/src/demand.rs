//! The demand for workers: ready tasks that wait for nothing but room.

mod pools;

use std::collections::BTreeMap;

use kahn_model::{ActionKind, LabelRule, Resources};

use crate::core::Core;
use crate::state::{Class, ClassIx, Gate, Lane};

pub use pools::PoolDemand;

/// Ready tasks with the same requirements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The kind of their actions, which a worker must support.
    pub kind: ActionKind,
    /// The rules that the labels of a worker must satisfy.
    pub required: &'a [LabelRule],
    /// What each of them requests.
    pub resources: &'a Resources,
    /// Their number.
    pub n_tasks: u64,
}

/// What the limits of keys and runs still admit while the demand is counted.
type Left = BTreeMap<Gate, u32>;

impl Core {
    /// Returns the ready tasks that a worker with enough room could be given now, grouped by their
    /// requirements.
    ///
    /// Leaves out tasks that more workers would not help: those of paused runs, those beyond the
    /// limit of a run or of a concurrency key, and those behind an open circuit breaker.
    #[must_use]
    pub fn demand(&self) -> Vec<Demand<'_>> {
        let classes = self.demand_by_class().into_iter();
        classes.map(|(ix, n)| demand(self.state.classes.get(ix), n)).collect()
    }

    fn demand_by_class(&self) -> BTreeMap<ClassIx, u64> {
        let mut left = Left::new();
        let mut classes: BTreeMap<ClassIx, u64> = BTreeMap::new();
        for (ix, lane) in self.state.ready.lanes() {
            if lane.head().is_none() || self.gate_of(ix).is_some() {
                continue;
            }
            let n_tasks = self.admitted(lane, &mut left);
            if n_tasks > 0 {
                *classes.entry(lane.class).or_default() += u64::from(n_tasks);
            }
        }
        classes
    }

    /// Returns how many tasks of a lane its limits admit, and subtracts them from what is left.
    fn admitted(&self, lane: &Lane, left: &mut Left) -> u32 {
        let run = &self.state.runs[lane.run.0];
        let class = self.state.classes.get(lane.class);
        let of_run =
            run.dag.policy().max_parallel.map(|max| (Gate::Run(lane.run), max, run.n_held));
        let of_keys = class.concurrency.iter().map(|limit| {
            let key = (lane.namespace, limit.key.clone());
            let n_held = self.state.gates.key_use(&key);
            (Gate::Key(key), limit.limit, n_held)
        });
        let mut n_tasks = u32::try_from(lane.len()).unwrap_or(u32::MAX);
        let mut gates = Vec::new();
        for (gate, max, n_held) in of_run.into_iter().chain(of_keys) {
            let n_left = *left.entry(gate.clone()).or_insert(max.saturating_sub(n_held));
            n_tasks = n_tasks.min(n_left);
            gates.push(gate);
        }
        for gate in gates {
            left.entry(gate).and_modify(|n_left| *n_left -= n_tasks);
        }
        n_tasks
    }
}

fn demand(class: &Class, n_tasks: u64) -> Demand<'_> {
    let (required, resources) = (class.selector.required.as_slice(), &*class.resources);
    Demand { kind: class.kind, required, resources, n_tasks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::testing::{World, dag};

    /// Returns the number of tasks, the requested resources and the number of required labels.
    fn demand_of(world: &World) -> Vec<(u64, String, usize)> {
        let each = |d: Demand<'_>| (d.n_tasks, d.resources.to_string(), d.required.len());
        world.core.demand().into_iter().map(each).collect()
    }

    #[test]
    fn tasks_without_room_are_grouped_by_what_they_require() {
        let mut world = World::new();
        let tasks = dag().task("a").resources("cpu=2").task("b").resources("cpu=2");
        world.submit(&tasks.task("c").on("zone", "eu").resources("memory=1Gi").build());
        let mut demand = demand_of(&world);
        demand.sort_unstable();
        assert_eq!(demand, [(1, "memory=1Gi".to_owned(), 1), (2, "cpu=2".to_owned(), 0)]);
        world.attach("w", "cpu=4");
        assert_eq!(demand_of(&world), [(1, "memory=1Gi".to_owned(), 1)]);
    }

    #[test]
    fn tasks_that_more_workers_would_not_help_are_left_out() {
        let mut world = World::new();
        let three = || dag().task("a").key("k", 2).task("b").key("k", 2).task("c").key("k", 2);
        let paused = world.submit(&three().build());
        world.accept(Event::PauseRequested { run: paused });
        assert_eq!(demand_of(&world), []);
        world.submit(&three().build());
        world.submit(&three().build());
        assert_eq!(demand_of(&world)[0].0, 2, "both runs share the key");
        world.submit(&dag().max_parallel(1).task("d").resources("gpu=1").task("e").build());
        let n_tasks: u64 = demand_of(&world).iter().map(|(n, ..)| n).sum();
        assert_eq!(n_tasks, 3, "one more, whatever its resources");
    }
}
