//! The workloads: DAG shapes that each exercise one kind of cost.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::floor::spawn_rate;

/// The shape of a DAG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One task, many that depend on it, and one that depends on all of these
    FanOut,
    /// Each task depends on the previous one
    Chain,
    /// Layers of 100 tasks, each depending on three of the previous layer
    Layered,
    /// Sleeps of 10 ms on 16 slots
    Sleep,
    /// Independent `/bin/true` processes
    Process,
    /// An empty function of the worker given by `--worker-program`
    Function,
    /// An empty Python function, in warm interpreters
    Python,
}

/// Number of tasks per layer.
const LAYER: usize = 100;
/// Duration of a sleep in seconds, and how many run concurrently.
const SLEEP_SECONDS: f64 = 0.01;
const SLEEP_SLOTS: usize = 16;

impl Workload {
    /// The workloads that need no other program.
    pub(super) const USUAL: [Self; 6] =
        [Self::FanOut, Self::Chain, Self::Layered, Self::Sleep, Self::Process, Self::Python];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::FanOut => "fan_out",
            Self::Chain => "chain",
            Self::Layered => "layered",
            Self::Sleep => "sleep",
            Self::Process => "process",
            Self::Function => "function",
            Self::Python => "python",
        }
    }

    pub(super) fn usual_tasks(self) -> usize {
        match self {
            Self::FanOut | Self::Layered | Self::Function | Self::Python => 10_000,
            Self::Chain => 1_000,
            Self::Sleep => 2_000,
            // Enough to make the time for reading the file, on one CPU, negligible.
            Self::Process => 20_000,
        }
    }

    /// Returns the total capacity of the workers.
    pub(super) fn capacity(self) -> &'static str {
        match self {
            Self::Process | Self::Sleep => "cpu=16,memory=4Gi",
            Self::FanOut | Self::Chain | Self::Layered | Self::Function | Self::Python => {
                "cpu=2,memory=4Gi"
            }
        }
    }

    /// Returns the minimum possible time, if known. The minimum time for starting processes must be
    /// measured with each round instead, because it changes from minute to minute.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn ideal_seconds(self, tasks: usize) -> Option<f64> {
        match self {
            Self::Sleep => Some(tasks as f64 * SLEEP_SECONDS / SLEEP_SLOTS as f64),
            Self::Process => Some(tasks as f64 / spawn_rate(tasks)),
            _ => None,
        }
    }

    /// Returns the dependencies of `task`.
    pub(super) fn needs(self, task: usize, tasks: usize) -> Vec<usize> {
        match self {
            Self::FanOut if task == 0 => Vec::new(),
            Self::FanOut if task + 1 == tasks => (1..task).collect(),
            Self::FanOut => vec![0],
            Self::Chain => task.checked_sub(1).into_iter().collect(),
            Self::Layered => layer_before(task),
            Self::Sleep | Self::Process | Self::Function | Self::Python => Vec::new(),
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::FanOut | Self::Chain | Self::Layered => r#""noop":{}"#,
            Self::Sleep => r#""sleep":"10ms","resources":{"cpu":1}"#,
            Self::Process => r#""exec":["/bin/true"],"resources":{"cpu":1}"#,
            Self::Function => r#""function":"noop","resources":{"cpu":0.01}"#,
            Self::Python => r#""python":"builtins:bool","resources":{"cpu":0.1}"#,
        }
    }

    /// Returns the DAG file and its number of dependencies.
    pub(super) fn document(self, tasks: usize) -> (String, usize) {
        let mut out = format!("{{\"name\":\"bench-{}\",\"tasks\":{{", self.word());
        let mut n_needs = 0;
        for task in 0..tasks {
            let needs = self.needs(task, tasks);
            n_needs += needs.len();
            let separator = if task == 0 { "" } else { "," };
            write!(out, "{separator}\"t{task}\":{{{}", self.action()).expect("invariant: a string");
            if !needs.is_empty() {
                let names: Vec<String> = needs.iter().map(|need| format!("\"t{need}\"")).collect();
                write!(out, ",\"needs\":[{}]", names.join(",")).expect("invariant: a string");
            }
            out.push('}');
        }
        out.push_str("}}");
        (out, n_needs)
    }
}

/// Returns three distinct tasks of the previous layer, evenly spread and deterministic.
fn layer_before(task: usize) -> Vec<usize> {
    let Some(layer) = (task / LAYER).checked_sub(1) else { return Vec::new() };
    [7, 13, 31].iter().map(|step| layer * LAYER + (task * 3 + step) % LAYER).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layered_dag_of_ten_thousand_has_thirty_thousand_dependencies() {
        let (document, n_needs) = Workload::Layered.document(10_000);
        assert_eq!(n_needs, 29_700);
        let none = std::collections::BTreeMap::new();
        let compiled = kahn_spec::compile(document.as_bytes(), "bench.json", &none).unwrap();
        assert_eq!(compiled.dag.n_dependencies(), 29_700);
    }

    #[test]
    fn every_workload_is_a_dag_file() {
        let none = std::collections::BTreeMap::new();
        for workload in Workload::value_variants() {
            let (document, _) = workload.document(300);
            assert!(kahn_spec::compile(document.as_bytes(), "bench.json", &none).is_ok());
        }
    }
}
