//! The secrets of an attempt, as a Secret of Kubernetes.
//!
//! The spec of a pod can be read by more people than secrets, so it only refers to them. The Secret
//! belongs to the pod, and Kubernetes removes it with the pod.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kahn_executor::Assignment;
use kahn_executor::failure::worker_fault;
use kahn_model::{Failure, SecretTarget};

/// Returns the key of a secret that the task gets as a file.
pub(super) fn file_key(name: &str) -> String {
    format!("file.{name}")
}

/// Returns the Secret for a pod, or `None` if the task has no secrets. Blocks.
pub(super) fn of(assignment: &Assignment, pod: &Pod) -> Result<Option<Secret>, Failure> {
    if assignment.secrets.is_empty() {
        return Ok(None);
    }
    let mut data: BTreeMap<String, ByteString> = assignment
        .secrets
        .variables()
        .map(|(name, value)| (name.to_owned(), ByteString(value.as_bytes().to_vec())))
        .collect();
    for used in &assignment.work.secrets {
        let SecretTarget::File(name) = &used.target else { continue };
        let read = assignment.secrets.with_files(|dir| std::fs::read(dir.join(&**name)));
        let bytes = match read {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return Err(worker_fault(&format!("secret file {name}: {error}"))),
            None => return Err(worker_fault(&format!("secret file {name}: it was not written"))),
        };
        data.insert(file_key(name), ByteString(bytes));
    }
    let metadata = ObjectMeta {
        name: pod.metadata.name.clone(),
        labels: pod.metadata.labels.clone(),
        owner_references: Some(vec![owner(pod)]),
        ..ObjectMeta::default()
    };
    Ok(Some(Secret { metadata, data: Some(data), immutable: Some(true), ..Secret::default() }))
}

fn owner(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}
