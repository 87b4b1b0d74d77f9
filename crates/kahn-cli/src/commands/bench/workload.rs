//! What is run: shapes of DAGs that show one cost each.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::floor::spawn_rate;

/// A shape of DAG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One task, many after it, one after those
    FanOut,
    /// Each task after the one before
    Chain,
    /// Layers of 100, each task after three of the layer before
    Layered,
    /// Sleeps of 10 ms on 16 slots
    Sleep,
    /// `/bin/true`, over and over
    Process,
    /// A function that does nothing, of the worker that `--worker-program` names
    Function,
    /// A function of Python that does nothing, in warm interpreters
    Python,
}

/// Tasks in one layer.
const LAYER: usize = 100;
/// What a sleep takes, in seconds, and how many may sleep at once.
const SLEEP_SECONDS: f64 = 0.01;
const SLEEP_SLOTS: usize = 16;

impl Workload {
    /// Those that need nothing but this program.
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
            // Enough that to read the file, on one processor, does not count.
            Self::Process => 20_000,
        }
    }

    /// What the workers have together.
    pub(super) fn capacity(self) -> &'static str {
        match self {
            Self::Process | Self::Sleep => "cpu=16,memory=4Gi",
            Self::FanOut | Self::Chain | Self::Layered | Self::Function | Self::Python => {
                "cpu=2,memory=4Gi"
            }
        }
    }

    /// The time that nothing could beat, where it is known; what starting processes takes at the
    /// least has to be measured beside each round, since it changes from one minute to the next.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn ideal_seconds(self, tasks: usize) -> Option<f64> {
        match self {
            Self::Sleep => Some(tasks as f64 * SLEEP_SECONDS / SLEEP_SLOTS as f64),
            Self::Process => Some(tasks as f64 / spawn_rate(tasks)),
            _ => None,
        }
    }

    /// What `task` depends on.
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

    /// The DAG file, and how many dependencies it has.
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

/// Three different tasks of the layer before, spread evenly and always the same.
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
