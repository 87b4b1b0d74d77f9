//! Gauges of the demand for workers, for an autoscaler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kahn_core::Demand;
use kahn_model::{FunctionCall, LabelRule, Resource, Resources, SecretUse};
use kahn_runtime::metrics::{Metrics, OTHER};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Maximum number of shapes that are told apart.
pub(super) const SHAPES_MAX: usize = 50;
/// Maximum length of the text of required labels. Longer ones count under `other`.
const TEXT_BYTES_MAX: usize = 256;

/// What a worker needs to take tasks: the executor and the labels.
type Shape = [(&'static str, Arc<str>); 2];

/// A gauge of numbers with a fraction.
type Fractions = Gauge<f64, AtomicU64>;

/// Gauges of the demand of each shape.
///
/// A shape without demand stays at 0 until its place is needed, since an autoscaler must see that
/// the demand has ended.
#[derive(Clone, Debug)]
pub(super) struct DemandGauges {
    tasks: Family<Shape, Gauge>,
    cpu: Family<Shape, Fractions>,
    memory: Family<Shape, Gauge>,
    gpus: Family<Shape, Fractions>,
    shown: BTreeMap<Shape, Sum>,
    are_labels_shown: bool,
}

/// The demand of one shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    n_tasks: u64,
    cpu_milli: u64,
    memory_bytes: u64,
    gpu_milli: u64,
}

impl Sum {
    fn add(&mut self, each: &Resources, n: u64) {
        let times = |resource| each.get(&resource).saturating_mul(n);
        self.n_tasks = self.n_tasks.saturating_add(n);
        self.cpu_milli = self.cpu_milli.saturating_add(times(Resource::Cpu));
        self.memory_bytes = self.memory_bytes.saturating_add(times(Resource::Memory));
        self.gpu_milli = self.gpu_milli.saturating_add(times(Resource::Gpu));
    }
}

impl DemandGauges {
    pub(super) fn new(metrics: &Metrics, are_labels_shown: bool) -> Self {
        let tasks = "Tasks that are ready and wait for room, by executor and required labels";
        let cpu = "Processors requested by the tasks of kahn_demand_tasks";
        let memory = "Memory requested by the tasks of kahn_demand_tasks";
        let gpus = "Graphics processors requested by the tasks of kahn_demand_tasks";
        let mut gauges = Self {
            tasks: metrics.family("demand_tasks", tasks),
            cpu: metrics.family("demand_cpu_cores", cpu),
            memory: metrics.family("demand_memory_bytes", memory),
            gpus: metrics.family("demand_gpus", gpus),
            shown: BTreeMap::new(),
            are_labels_shown,
        };
        gauges.set(&[]);
        gauges
    }

    /// Removes all shapes but the one for all others, which becomes zero.
    pub(super) fn clear(&self) {
        self.tasks.clear();
        self.cpu.clear();
        self.memory.clear();
        self.gpus.clear();
        self.show(&others(), &Sum::default());
    }

    pub(super) fn set(&mut self, demands: &[Demand<'_>]) {
        let mut sums: BTreeMap<Shape, Sum> = BTreeMap::from([(others(), Sum::default())]);
        for demand in demands {
            let sum = sums.entry(self.shape(demand)).or_default();
            sum.add(demand.resources, demand.n_tasks);
        }
        self.evict_idle(&sums);
        let mut rest = Sum::default();
        for (shape, sum) in sums {
            // One more than the maximum, for `other`.
            if self.shown.contains_key(&shape) || self.shown.len() <= SHAPES_MAX {
                self.shown.insert(shape, sum);
            } else {
                rest.merge(&sum);
            }
        }
        self.shown.entry(others()).or_default().merge(&rest);
        for (shape, sum) in &self.shown {
            self.show(shape, sum);
        }
    }

    /// Sets shapes without demand to zero, and removes as many as new shapes need places.
    fn evict_idle(&mut self, sums: &BTreeMap<Shape, Sum>) {
        let n_new = sums.keys().filter(|shape| !self.shown.contains_key(*shape)).count();
        let mut n_surplus = (self.shown.len() + n_new).saturating_sub(SHAPES_MAX + 1);
        let idle: Vec<Shape> =
            self.shown.keys().filter(|shape| !sums.contains_key(*shape)).cloned().collect();
        for shape in idle {
            if n_surplus > 0 {
                n_surplus -= 1;
                self.remove(&shape);
            } else {
                self.shown.insert(shape, Sum::default());
            }
        }
    }

    fn remove(&mut self, shape: &Shape) {
        self.shown.remove(shape);
        self.tasks.remove(shape);
        self.cpu.remove(shape);
        self.memory.remove(shape);
        self.gpus.remove(shape);
    }

    fn show(&self, shape: &Shape, sum: &Sum) {
        let whole = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.tasks.get_or_create(shape).set(whole(sum.n_tasks));
        self.cpu.get_or_create(shape).set(thousandths(sum.cpu_milli));
        self.memory.get_or_create(shape).set(whole(sum.memory_bytes));
        self.gpus.get_or_create(shape).set(thousandths(sum.gpu_milli));
    }

    fn shape(&self, demand: &Demand<'_>) -> Shape {
        let text = if self.are_labels_shown { required(demand.required) } else { String::new() };
        if text.len() > TEXT_BYTES_MAX {
            return others();
        }
        [("executor", demand.kind.as_str().into()), ("labels", text.into())]
    }
}

impl Sum {
    fn merge(&mut self, other: &Self) {
        self.n_tasks = self.n_tasks.saturating_add(other.n_tasks);
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.gpu_milli = self.gpu_milli.saturating_add(other.gpu_milli);
    }
}

fn others() -> Shape {
    [("executor", OTHER.into()), ("labels", OTHER.into())]
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn thousandths(value: u64) -> f64 {
    value as f64 / 1000.0
}

/// Returns required labels as `gpu,zone=eu|us,!spot`, sorted. Leaves out those that Kahn itself
/// derives from the functions and secrets of a task: they contain names that users gave.
fn required(rules: &[LabelRule]) -> String {
    let mut texts: Vec<String> = rules.iter().filter_map(rule).collect();
    texts.sort_unstable();
    texts.join(",")
}

fn rule(rule: &LabelRule) -> Option<String> {
    let (key, text) = match rule {
        LabelRule::In { key, values } => (key, format!("{key}={}", values.join("|"))),
        LabelRule::NotIn { key, values } => (key, format!("{key}!={}", values.join("|"))),
        LabelRule::Exists { key } => (key, key.clone()),
        LabelRule::Absent { key } => (key, format!("!{key}")),
    };
    let is_derived =
        [FunctionCall::label_of(""), SecretUse::label_of("")].iter().any(|p| key.starts_with(p));
    (!is_derived).then_some(text)
}
