//! Measures the time between dependent tasks.

use std::collections::BTreeMap;

use kahn_client::Client;
use kahn_model::RunId;
use serde_json::Value;

use crate::exit::Failure;

/// Times from the end of the last dependency to the start of its dependent, sorted, in
/// microseconds.
pub(super) struct Hops(Vec<f64>);

impl Hops {
    /// Computes the hops from the events of a run.
    pub(super) async fn read(client: &Client, run: RunId, document: &str) -> Result<Self, Failure> {
        let mut started = BTreeMap::new();
        let mut succeeded = BTreeMap::new();
        let mut history = client.history(run, 0);
        while let Some(update) = history.next().await? {
            for event in update.events {
                match event.kind.as_str() {
                    "task_started" => started.insert(event.task, event.at.0),
                    "task_succeeded" => succeeded.insert(event.task, event.at.0),
                    _ => None,
                };
            }
        }
        let mut hops = Vec::new();
        for (task, needs) in needs(document) {
            let ends = needs.iter().filter_map(|need| succeeded.get(need));
            if let (Some(start), Some(end)) = (started.get(&task), ends.max()) {
                let micros = u32::try_from(start.saturating_sub(*end)).unwrap_or(u32::MAX);
                hops.push(f64::from(micros));
            }
        }
        hops.sort_by(f64::total_cmp);
        Ok(Self(hops))
    }

    /// Returns the quantile of the hops at `share`, or `None` without hops.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        quantile(&self.0, share)
    }
}

/// Returns the quantile of sorted values at `share`.
pub(super) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position within a vector"
    )]
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied()
}

fn needs(document: &str) -> Vec<(String, Vec<String>)> {
    let file: Value = serde_json::from_str(document).unwrap_or_default();
    let tasks = file["tasks"].as_object().into_iter().flatten();
    tasks
        .filter_map(|(name, task)| {
            let needs = task["needs"].as_array()?;
            let names = needs.iter().filter_map(|need| need.as_str().map(str::to_owned));
            Some((name.clone(), names.collect()))
        })
        .collect()
}
