//! Explains what the ready tasks of a run wait for.

use kahn_model::{RunId, TaskIx};

use crate::core::Core;
use crate::state::LaneIx;

/// Maximum number of lanes explained, since each requires a search of the workers.
const LANES_EXPLAINED_MAX: usize = 32;

/// Ready tasks of a run that wait for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Number of tasks.
    pub n_tasks: usize,
    /// The task that goes first.
    pub first: TaskIx,
    /// The reason as a stable word, as in [`super::Explanation`].
    pub code: &'static str,
    /// The reason as a sentence.
    pub message: String,
    /// What would let them continue; may be empty.
    pub remedy: &'static str,
}

impl Core {
    /// Explains what the ready tasks of `run` wait for, ordered by descending number of tasks.
    /// Returns `None` if the run does not exist.
    ///
    /// Tasks with equal requirements are explained together. For a run with many different
    /// requirements, only some of them are explained.
    #[must_use]
    pub fn waiting(&self, run: RunId) -> Option<Vec<Waiting>> {
        let run = self.state.run(run)?;
        let mut found: Vec<Waiting> = Vec::new();
        for lane in run.lanes.values().copied().take(LANES_EXPLAINED_MAX) {
            let Some((n_tasks, first)) = self.tasks_of(lane) else { continue };
            let (code, message, remedy) = match self.held_back(run, lane) {
                Some(why) => (why.code, why.message, why.remedy),
                None => {
                    ("no_room", "all suitable workers are busy".to_owned(), "wait, or add workers")
                }
            };
            match found.iter_mut().find(|other| other.code == code && other.message == message) {
                Some(same) => {
                    same.n_tasks += n_tasks;
                    same.first = same.first.min(first);
                }
                None => found.push(Waiting { n_tasks, first, code, message, remedy }),
            }
        }
        found.sort_by_key(|waiting| std::cmp::Reverse(waiting.n_tasks));
        Some(found)
    }

    /// Returns the number of tasks in a lane, and the one that goes first.
    fn tasks_of(&self, lane: LaneIx) -> Option<(usize, TaskIx)> {
        let lane = self.state.ready.lane(lane);
        lane.head().map(|(_, first)| (lane.len(), first))
    }
}
