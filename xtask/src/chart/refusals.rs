//! Values that contradict each other are refused with a message that names the way out.

use anyhow::Result;

use super::Chart;
use super::helm::Helm;

/// Values, and what the refusal must contain.
const REFUSED: [(&[&str], &str); 15] = [
    (&["coordinator.replica=3"], "replica"),
    (&["pools.gpu.replica=3"], "replica"),
    (&["store.type=redis"], "/store/type"),
    (&["store.type=embedded"], "set coordinator.replicas to 1"),
    (&["store.type=external"], "set store.external.url or store.external.urlSecret"),
    (
        &["store.type=external", "store.external.url=redis://kahn:secret@redis:6379"],
        "put the URL into a Secret",
    ),
    (&["tls.mode=certManager"], "set tls.certManager.issuerRef"),
    (&["tls.mode=existingSecrets"], "set tls.existingSecrets.coordinator"),
    (&["ingress.enabled=true"], "set ingress.hosts"),
    (
        &["workerDefaults.autoscaling.type=hpa", "workerDefaults.autoscaling.minReplicas=0"],
        "only autoscaling.type keda can scale to 0",
    ),
    (
        &[
            "workerDefaults.autoscaling.type=keda",
            "workerDefaults.autoscaling.keda.source=prometheus",
        ],
        "set autoscaling.keda.serverAddress",
    ),
    (
        &["workerDefaults.autoscaling.type=keda", "autoscaler.enabled=false"],
        "set autoscaler.enabled to true",
    ),
    (
        &[
            "workerDefaults.autoscaling.type=keda",
            "tls.mode=existingSecrets",
            "tls.existingSecrets.coordinator=a",
            "tls.existingSecrets.worker=b",
        ],
        "set tls.existingSecrets.autoscaler",
    ),
    (&["workerDefaults.reservedMemory=2Gi"], "must be more than reservedMemory"),
    (&["workerDefaults.kubernetes.enabled=true"], "set capacity.cpu and capacity.memory"),
];

/// Returns a problem for each of these values that helm accepts, or refuses for another reason.
pub(super) fn check(helm: &Helm, chart: &Chart) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (values, expected) in REFUSED {
        match helm.refusal(&chart.directory, values)? {
            None => problems.push(format!("{values:?} is accepted; expected: {expected}")),
            Some(refusal) if !refusal.contains(expected) => {
                problems.push(format!("{values:?}: expected {expected:?} in: {refusal}"));
            }
            Some(_) => {}
        }
    }
    Ok(problems)
}
