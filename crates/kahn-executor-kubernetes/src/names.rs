//! Names and labels of pods.

use std::collections::BTreeMap;

use kahn_model::{AttemptId, WorkerId};
use sha2::{Digest as _, Sha256};

/// The worker that owns a pod.
pub(super) const WORKER: &str = "kahn/worker";
/// The id of the run.
const RUN: &str = "kahn/run";
/// The name of the task, shortened if necessary.
const TASK: &str = "kahn/task";
/// The number of the attempt.
const ATTEMPT: &str = "kahn/attempt";
/// The annotation with the name of the task.
pub(super) const TASK_NAME: &str = "kahn/task-name";

/// The maximum length of the value of a label.
const LABEL_BYTES_MAX: usize = 63;
/// The maximum length of the part of the name of a pod that shows the task.
const TASK_BYTES_MAX: usize = 24;

/// Returns the name of the pod of an attempt. The same attempt always has the same name, so that it
/// cannot have two pods, and two attempts never share one.
pub(super) fn pod_name(attempt: AttemptId, task_name: &str) -> String {
    let AttemptId { run, task, number } = attempt;
    let mut hasher = Sha256::new();
    hasher.update(run.as_bytes());
    hasher.update(task.0.to_le_bytes());
    let digest = hasher.finalize();
    let digest: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let task = dns_label(task_name);
    let task = task.get(..TASK_BYTES_MAX).unwrap_or(&task).trim_matches('-');
    let shown = if task.is_empty() { "task" } else { task };
    format!("kahn-{shown}-{digest}-{number}")
}

/// Replaces what the names of objects do not allow.
fn dns_label(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(plain).collect()
}

/// Replaces what the values of labels do not allow.
fn label_value(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let short = plain.get(..LABEL_BYTES_MAX).unwrap_or(&plain);
    short.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Returns the labels by which all pods of a worker are found.
pub(super) fn of_worker(worker: &WorkerId) -> BTreeMap<String, String> {
    // Two long names could have the same beginning.
    let digest = Sha256::digest(worker.as_str().as_bytes());
    let digest: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = label_value(worker.as_str());
    let name = name.get(..LABEL_BYTES_MAX - 9).unwrap_or(&name);
    [("app.kubernetes.io/managed-by", "kahn".to_owned()), (WORKER, format!("{name}-{digest}"))]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// Returns the labels of the pod of an attempt, without those of its worker.
pub(super) fn of_attempt(attempt: AttemptId, task_name: &str) -> BTreeMap<String, String> {
    [
        (RUN, attempt.run.to_string()),
        (TASK, label_value(task_name)),
        (ATTEMPT, attempt.number.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Returns a selector for all of these labels.
pub(super) fn selector(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use kahn_model::{RunId, TaskIx, Uuid};

    use super::*;

    fn attempt(run: u128, task: u32, number: u32) -> AttemptId {
        AttemptId { run: RunId::new(Uuid::from_u128(run)), task: TaskIx(task), number }
    }

    #[test]
    fn names_of_pods_are_valid_and_differ_for_all_attempts() {
        let long = "Build[os=linux, arch=arm64].with_a_very_long_name".repeat(3);
        let mut names = std::collections::BTreeSet::new();
        for task_name in ["a", "Ä", "-", &long] {
            for attempt in
                [attempt(1, 0, 1), attempt(1, 1, 1), attempt(2, 0, 1), attempt(1, 0, u32::MAX)]
            {
                let name = pod_name(attempt, task_name);
                assert_eq!(name, pod_name(attempt, task_name));
                assert!(name.len() <= 63, "{name}");
                let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                assert!(name.chars().all(is_plain), "{name}");
                assert!(name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
                names.insert((task_name.to_owned(), name));
            }
        }
        assert_eq!(names.len(), 16);
    }

    #[test]
    fn labels_hold_only_what_labels_may_hold() {
        let labels = of_attempt(attempt(1, 0, 3), "build[os=linux]");
        assert_eq!(labels[TASK], "build_os_linux");
        assert_eq!(labels[ATTEMPT], "3");
        assert_eq!(label_value(&"x".repeat(100)).len(), 63);
        assert_eq!(label_value("[]"), "");
        let worker = |name: &str| of_worker(&name.parse().unwrap())[WORKER].clone();
        let long = "w".repeat(60);
        assert!(worker(&long).len() <= 63);
        assert_ne!(worker(&format!("{long}a")), worker(&format!("{long}b")));
    }
}
