//! Spans of time that ended with an event, for the metrics of the driver.
//!
//! They follow from the state and are not part of it: nothing is decided by them, and none are kept
//! beyond the step in which they ended.

use std::time::Duration;

use kahn_model::{ActionKind, RunState};

use crate::state::NamespaceIx;

/// A span of time that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// A ready task was leased.
    Leased {
        /// The namespace of its run.
        namespace: NamespaceIx,
        /// How long it was ready.
        wait: Duration,
    },
    /// An attempt started.
    Started {
        /// The time since its task was ready.
        wait: Duration,
    },
    /// An attempt that had started ended.
    Ran {
        /// The kind of its action.
        kind: ActionKind,
        /// How long it ran: as its worker measured, or else between the reports of its start and
        /// its end.
        elapsed: Duration,
    },
    /// A run ended.
    Ended {
        /// The state in which it ended.
        state: RunState,
        /// The time since it was submitted or last retried.
        elapsed: Duration,
    },
}

#[cfg(test)]
mod tests {
    use kahn_model::{Outputs, Timestamp};

    use super::*;
    use crate::core::Core;
    use crate::log::Term;
    use crate::settings::Settings;
    use crate::testing::{World, dag};

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn leased(wait: Duration) -> Timing {
        Timing::Leased { namespace: NamespaceIx::default(), wait }
    }

    #[test]
    fn waits_begin_when_the_task_is_ready() {
        let mut world = World::new();
        let run = world.submit(&dag().task("a").task("b").after("a").build());
        world.wait(seconds(2));
        world.attach("w", "cpu=1");
        let attempt = world.held("w", run, "a").unwrap();
        world.wait(seconds(1));
        world.start("w", attempt);
        world.wait(seconds(4));
        world.finish_after("w", attempt, Ok(Outputs::default()), seconds(4));
        let [first, started, ran, second] = world.timings[..] else { panic!() };
        assert_eq!((first, second), (leased(seconds(2)), leased(seconds(0))));
        assert_eq!(started, Timing::Started { wait: seconds(3) });
        assert!(matches!(ran, Timing::Ran { elapsed, .. } if elapsed == seconds(4)), "{ran:?}");
        assert_eq!(world.core.state().namespace(NamespaceIx::default()).as_str(), "default");
    }

    #[test]
    fn the_start_of_an_attempt_follows_from_its_end_if_it_was_not_reported() {
        let mut world = World::new();
        let run = world.submit(&dag().task("a").build());
        world.attach("w", "cpu=1");
        let attempt = world.held("w", run, "a").unwrap();
        world.wait(seconds(5));
        world.finish_after("w", attempt, Ok(Outputs::default()), seconds(3));
        let [_, started, _, ended] = world.timings[..] else { panic!() };
        assert_eq!(started, Timing::Started { wait: seconds(2) });
        assert_eq!(ended, Timing::Ended { state: RunState::Succeeded, elapsed: seconds(5) });
    }

    #[test]
    fn a_retried_run_lasts_from_its_retry() {
        let mut world = World::new();
        let run = world.submit(&dag().task("a").build());
        world.attach("w", "cpu=1");
        let attempt = world.held("w", run, "a").unwrap();
        world.finish("w", attempt, Err(crate::testing::exit_code(1)));
        world.wait(seconds(60));
        world.accept(crate::Event::RetryRequested { run, scope: crate::RetryScope::Failed });
        world.wait(seconds(1));
        world.finish_all();
        let last = *world.timings.last().unwrap();
        let Timing::Ended { elapsed, .. } = last else { panic!("{last:?}") };
        assert!(elapsed < seconds(60), "{elapsed:?}");
    }

    #[test]
    fn a_replayed_log_has_no_timings() {
        let mut world = World::new();
        world.attach("w", "cpu=1");
        world.submit(&dag().task("a").build());
        let n_before = world.timings.len();
        world.take_over(seconds(1));
        assert_eq!((n_before, world.timings.len()), (1, 1));
    }

    #[test]
    fn a_wait_continues_across_a_checkpoint() {
        let mut world = World::new();
        let run = world.submit(&dag().task("a").build());
        world.wait(seconds(7));
        let partition = world.core.state().partition_of(run);
        let mut core = Core::new(Settings::default());
        core.restore(world.core.state().snapshot(partition));
        let now = Timestamp(world.now.0);
        drop(core.begin(now, Term { epoch: 2, nonce: 2 }));
        world.core = core;
        world.attach("w", "cpu=1");
        assert_eq!(world.timings, [leased(seconds(7))]);
    }
}
