//! Decides which runs and which output to remove. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{RunId, Timestamp};
use kahn_runtime::human_duration;

use crate::config::{Age, Retain, RetentionConfig};

/// A run that has ended.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub run: RunId,
    pub namespace: String,
    pub finished_at: Timestamp,
    /// The size of what is stored of it if it is archived, and otherwise zero.
    pub history_bytes: u64,
    /// The size of its output, if it is known and was not removed.
    pub log_bytes: Option<u64>,
}

/// What to remove, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Runs, with everything that belongs to them.
    pub runs: Vec<RunId>,
    /// The output of runs that are kept, and why.
    pub output: Vec<(RunId, String)>,
}

/// Decides what to remove. Of all namespaces together, `runs_max` runs are kept.
pub(super) fn plan(
    mut finished: Vec<Finished>,
    now: Timestamp,
    config: &RetentionConfig,
    runs_max: usize,
) -> Plan {
    finished.sort_unstable_by_key(|run| std::cmp::Reverse((run.finished_at, run.run)));
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    let mut plan = Plan::default();
    for (position, run) in finished.into_iter().enumerate() {
        let age = now.since(run.finished_at);
        let Kept { retain, n_runs, history_bytes, log_bytes } =
            kept.entry(run.namespace).or_insert_with_key(|namespace| Kept {
                retain: config.of(namespace),
                ..Kept::default()
            });
        let is_surplus = position >= runs_max || retain.runs.is_some_and(|max| *n_runs >= max);
        let with_it = history_bytes.saturating_add(run.history_bytes);
        let is_too_large =
            run.history_bytes > 0 && retain.history_bytes.is_some_and(|max| with_it > max);
        if is_surplus || is_too_large || is_exceeded(retain.run_age, age) {
            plan.runs.push(run.run);
            continue;
        }
        *n_runs += 1;
        *history_bytes = with_it;
        *log_bytes = log_bytes.saturating_add(run.log_bytes.unwrap_or(0));
        if let Some(reason) = reason_to_remove(retain, age, *log_bytes, run.log_bytes) {
            plan.output.push((run.run, reason));
        }
    }
    plan.runs.reverse();
    plan.output.reverse();
    plan
}

/// What is kept of the newer runs of a namespace.
#[derive(Debug, Default)]
struct Kept {
    retain: Retain,
    n_runs: usize,
    history_bytes: u64,
    log_bytes: u64,
}

fn is_exceeded(longest: Option<Age>, age: Duration) -> bool {
    longest.is_some_and(|Age(longest)| age > longest)
}

fn reason_to_remove(
    retain: &Retain,
    age: Duration,
    total: u64,
    own: Option<u64>,
) -> Option<String> {
    if let Some(Age(longest)) = retain.log_age.filter(|longest| is_exceeded(Some(*longest), age)) {
        let longest = human_duration::format(longest);
        return Some(format!(
            "it was removed {longest} after the end of the run (retention.log_age)"
        ));
    }
    let max = retain.log_bytes.filter(|max| total > *max && own.is_some_and(|own| own > 0))?;
    Some(format!("it was removed to keep no more than {max} bytes (retention.log_bytes)"))
}

#[cfg(test)]
mod tests {
    use kahn_model::Uuid;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(n: u128) -> RunId {
        RunId::new(Uuid::from_u128(n))
    }

    /// A run that ended `age` hours before [`now`].
    fn run(n: u128, namespace: &str, age: u32, log_bytes: u64) -> Finished {
        let finished_at = Timestamp(now().0 - u64::try_from((HOUR * age).as_micros()).unwrap());
        let namespace = namespace.to_owned();
        Finished {
            run: id(n),
            namespace,
            finished_at,
            history_bytes: 0,
            log_bytes: Some(log_bytes),
        }
    }

    fn now() -> Timestamp {
        Timestamp(u64::try_from((HOUR * 1000).as_micros()).unwrap())
    }

    fn config(default: Retain) -> RetentionConfig {
        RetentionConfig { default, ..RetentionConfig::default() }
    }

    fn removed(plan: &Plan) -> Vec<RunId> {
        plan.output.iter().map(|(run, _)| *run).collect()
    }

    #[test]
    fn without_limits_only_the_number_of_all_runs_counts() {
        let runs = vec![run(1, "a", 3, 9), run(2, "b", 1, 9), run(3, "a", 2, 9)];
        let none = config(Retain::default());
        assert_eq!(plan(runs.clone(), now(), &none, 3), Plan::default());
        assert_eq!(plan(runs, now(), &none, 1).runs, [id(1), id(3)]);
    }

    #[test]
    fn the_oldest_of_each_namespace_go_first() {
        let runs = vec![run(1, "a", 3, 0), run(2, "b", 9, 0), run(3, "a", 2, 0), run(4, "a", 1, 0)];
        let limited = config(Retain { runs: Some(1), ..Retain::default() });
        assert_eq!(plan(runs.clone(), now(), &limited, 100).runs, [id(1), id(3)]);
        let aged = config(Retain { run_age: Some(Age(HOUR * 2)), ..Retain::default() });
        assert_eq!(plan(runs, now(), &aged, 100).runs, [id(2), id(1)]);
    }

    #[test]
    fn a_namespace_of_its_own_limits_is_not_touched_by_those_of_others() {
        let mut config = config(Retain { runs: Some(0), ..Retain::default() });
        let own = Retain { runs: Some(7), ..Retain::default() };
        config.namespaces.insert("a".into(), own);
        let runs = vec![run(1, "a", 3, 0), run(2, "b", 9, 0)];
        assert_eq!(plan(runs, now(), &config, 100).runs, [id(2)]);
    }

    #[test]
    fn histories_beyond_their_bytes_go_with_their_runs() {
        let sized = config(Retain { history_bytes: Some(10), ..Retain::default() });
        let archived =
            |n, namespace, age| Finished { history_bytes: 6, ..run(n, namespace, age, 9) };
        let runs = vec![archived(1, "a", 3), run(2, "a", 4, 9), archived(3, "a", 1)];
        let planned = plan([runs, vec![archived(4, "b", 3)]].concat(), now(), &sized, 100);
        assert_eq!(planned, Plan { runs: vec![id(1)], output: Vec::new() });
    }

    #[test]
    fn output_goes_before_its_run_and_the_reason_is_named() {
        let sized = config(Retain { log_bytes: Some(10), ..Retain::default() });
        let runs = vec![run(1, "a", 3, 6), run(2, "a", 2, 0), run(3, "a", 1, 6), run(4, "b", 3, 6)];
        let planned = plan(runs.clone(), now(), &sized, 100);
        assert_eq!((removed(&planned), planned.runs.len()), (vec![id(1)], 0));
        assert!(planned.output[0].1.contains("10 bytes (retention.log_bytes)"));
        let aged = config(Retain { log_age: Some(Age(HOUR * 2)), ..Retain::default() });
        let planned = plan(runs, now(), &aged, 100);
        assert_eq!(removed(&planned), [id(1), id(4)]);
        assert!(planned.output[0].1.contains("2h after the end of the run (retention.log_age)"));
    }
}
