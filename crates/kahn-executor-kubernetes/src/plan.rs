//! Converts an attempt into a pod, within the operator's policy.

mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, Container as PodContainer, EnvVar, EnvVarSource, LocalObjectReference, Pod,
    PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile, SecretKeySelector,
    SecurityContext, Toleration as PodToleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kahn_executor::Assignment;
use kahn_executor::failure::cannot_start;
use kahn_model::{
    Failure, Pod as Asked, PullPolicy, Resource, Resources, TaintEffect, Text, Toleration,
};

use super::names;
use super::policy;
use super::settings::KubernetesSettings;

/// The name of the container of a task.
pub(super) const CONTAINER: &str = "task";
/// The file into which a task writes its outputs. Kubernetes makes its content part of the status of
/// the pod.
const OUTPUT_FILE: &str = "/dev/termination-log";
const OUTPUT_VARIABLE: &str = "KAHN_OUTPUT";
/// How much longer than its timeouts a pod may run, so that it ends even if its worker does not come
/// back.
const DEADLINE_MARGIN: Duration = Duration::from_secs(60);

/// What all pods of a worker have in common.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// The labels of the worker.
    pub(super) labels: BTreeMap<String, String>,
    /// The worker's own pod, with which its pods are removed.
    pub(super) reference: Option<OwnerReference>,
    /// The grace of tasks that do not set one.
    pub(super) grace: Duration,
}

/// Returns the pod of an attempt. The values of its secrets are not in it, but in a Secret of the
/// same name.
pub(super) fn pod(
    assignment: &Assignment,
    asked: &Asked,
    owner: &Owner,
    settings: &KubernetesSettings,
) -> Result<Pod, Failure> {
    let (container, options) = (&asked.container, &asked.options);
    policy::check(container.image.as_str(), options, &settings.allow)?;
    let (uid, gid) = policy::user(container.user.as_deref(), settings)?;
    let name = names::pod_name(assignment.attempt, &assignment.task_name);
    let (volumes, volume_mounts) = volumes::of(assignment, asked, settings, &name);
    let owned = |name: &Option<Box<str>>| name.as_deref().map(str::to_owned);
    let pull_secrets = options.image_pull_secrets.iter();
    let grace = assignment.timeouts.grace.unwrap_or(owner.grace);
    let spec = PodSpec {
        restart_policy: Some("Never".into()),
        service_account_name: owned(&options.service_account),
        automount_service_account_token: Some(options.service_account.is_some()),
        enable_service_links: Some(false),
        node_selector: (!options.node_selector.is_empty()).then(|| map(&options.node_selector)),
        tolerations: Some(options.tolerations.iter().map(toleration).collect()),
        priority_class_name: owned(&options.priority_class),
        runtime_class_name: owned(&options.runtime_class),
        image_pull_secrets: Some(
            pull_secrets.map(|name| LocalObjectReference { name: name.to_string() }).collect(),
        ),
        termination_grace_period_seconds: Some(seconds(grace).max(1)),
        active_deadline_seconds: assignment
            .timeouts
            .run
            .map(|run| seconds(run + grace + settings.pending_timeout + DEADLINE_MARGIN).max(1)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(uid != 0),
            run_as_user: Some(uid),
            run_as_group: Some(gid),
            fs_group: Some(gid).filter(|gid| *gid != 0),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![PodContainer {
            name: CONTAINER.into(),
            image: Some(container.image.as_str().to_owned()),
            image_pull_policy: Some(pull_policy(container.pull).into()),
            command: texts(&container.command),
            args: texts(&container.args),
            working_dir: assignment.work.working_dir.as_ref().map(|dir| dir.as_str().to_owned()),
            env: Some(environment(assignment, &name)),
            resources: Some(requirements(&assignment.resources, &settings.gpu_resource)?),
            volume_mounts: Some(volume_mounts),
            security_context: Some(confinement()),
            termination_message_path: Some(OUTPUT_FILE.into()),
            termination_message_policy: Some("File".into()),
            ..PodContainer::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    Ok(Pod { metadata: metadata(assignment, asked, owner, name), spec: Some(spec), status: None })
}

fn metadata(assignment: &Assignment, asked: &Asked, owner: &Owner, name: String) -> ObjectMeta {
    let mut labels = map(&asked.options.labels);
    labels.extend(owner.labels.clone());
    labels.extend(names::of_attempt(assignment.attempt, &assignment.task_name));
    let mut annotations = map(&asked.options.annotations);
    annotations.insert(names::TASK_NAME.into(), assignment.task_name.clone());
    ObjectMeta {
        name: Some(name),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: owner.reference.clone().map(|reference| vec![reference]),
        ..ObjectMeta::default()
    }
}

/// Returns the confinement, which tasks cannot change. It satisfies the Pod Security Standard
/// `restricted`.
fn confinement() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        ..SecurityContext::default()
    }
}

fn pull_policy(pull: PullPolicy) -> &'static str {
    match pull {
        PullPolicy::Missing => "IfNotPresent",
        PullPolicy::Always => "Always",
        PullPolicy::Never => "Never",
    }
}

fn map(pairs: &[(Box<str>, Box<str>)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn toleration(toleration: &Toleration) -> PodToleration {
    let effect = toleration.effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    PodToleration {
        key: Some(toleration.key.to_string()).filter(|key| !key.is_empty()),
        operator: Some(if toleration.value.is_some() { "Equal" } else { "Exists" }.into()),
        value: toleration.value.as_deref().map(str::to_owned),
        effect: effect.map(str::to_owned),
        toleration_seconds: None,
    }
}

fn seconds(span: Duration) -> i64 {
    let up = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    i64::try_from(up).unwrap_or(i64::MAX)
}

fn texts(texts: &[Text]) -> Option<Vec<String>> {
    let texts: Vec<_> = texts.iter().map(|text| literal(text.as_str())).collect();
    (!texts.is_empty()).then_some(texts)
}

/// Protects a text from Kubernetes, which replaces `$(NAME)` by the value of a variable, and `$$` by
/// `$`, in commands, arguments and variables.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// Returns the variables of the container. Those with secrets refer to the Secret with this name.
fn environment(assignment: &Assignment, secret: &str) -> Vec<EnvVar> {
    let secrets: BTreeSet<&str> = assignment.secrets.variables().map(|(name, _)| name).collect();
    let own: BTreeSet<&str> = assignment.env.iter().map(|(name, _)| name.as_str()).collect();
    let mut variables: BTreeMap<&str, EnvVar> = BTreeMap::new();
    for (name, value) in assignment.variables() {
        let is_secret = secrets.contains(name) && !own.contains(name);
        let variable = match is_secret {
            true => referring(name, secret),
            false => plain(name, literal(value)),
        };
        variables.insert(name, variable);
    }
    variables.insert(OUTPUT_VARIABLE, plain(OUTPUT_VARIABLE, OUTPUT_FILE.to_owned()));
    variables.into_values().collect()
}

fn plain(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn referring(name: &str, secret: &str) -> EnvVar {
    let selector =
        SecretKeySelector { key: name.to_owned(), name: secret.to_owned(), optional: Some(false) };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// Returns what the container gets, which is also its limit, as with other executors.
fn requirements(
    resources: &Resources,
    gpu_resource: &str,
) -> Result<ResourceRequirements, Failure> {
    let (cpu, memory, gpu) = (
        resources.get(&Resource::Cpu),
        resources.get(&Resource::Memory),
        resources.get(&Resource::Gpu),
    );
    if gpu % 1000 != 0 {
        return Err(cannot_start("a pod gets whole graphics processors only"));
    }
    let mut amounts = BTreeMap::new();
    for (name, amount) in [
        ("cpu", (cpu > 0).then(|| format!("{cpu}m"))),
        ("memory", (memory > 0).then(|| memory.to_string())),
        (gpu_resource, (gpu > 0).then(|| (gpu / 1000).to_string())),
    ] {
        if let Some(amount) = amount {
            amounts.insert(name.to_owned(), Quantity(amount));
        }
    }
    Ok(ResourceRequirements {
        limits: Some(amounts.clone()),
        requests: Some(amounts),
        claims: None,
    })
}

#[cfg(test)]
mod tests;
