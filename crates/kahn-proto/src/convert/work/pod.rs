//! Pods of Kubernetes.

use kahn_model::{Pod, PodOptions, PodVolume, TaintEffect, Toleration, VolumeSource};
use wire::pod_volume::Source;

use super::container;
use crate::convert::ConvertError;
use crate::storage as wire;

type Pairs = Vec<(Box<str>, Box<str>)>;

pub(super) fn to_wire(pod: &Pod) -> wire::PodAction {
    let options = &pod.options;
    let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    wire::PodAction {
        container: Some(container::to_wire(&pod.container)),
        service_account: owned(&options.service_account),
        node_selector: pairs_to_wire(&options.node_selector),
        tolerations: options.tolerations.iter().map(toleration_to_wire).collect(),
        labels: pairs_to_wire(&options.labels),
        annotations: pairs_to_wire(&options.annotations),
        volumes: options.volumes.iter().map(volume_to_wire).collect(),
        image_pull_secrets: options.image_pull_secrets.iter().map(ToString::to_string).collect(),
        priority_class: owned(&options.priority_class),
        runtime_class: owned(&options.runtime_class),
    }
}

pub(super) fn from_wire(found: wire::PodAction) -> Result<Pod, ConvertError> {
    let container = found.container.ok_or(ConvertError::Missing { field: "work.pod.container" })?;
    let boxed = |text: Option<String>| text.map(String::into_boxed_str);
    let secrets = found.image_pull_secrets.into_iter();
    let options = PodOptions {
        service_account: boxed(found.service_account),
        node_selector: pairs_from_wire(found.node_selector),
        tolerations: found
            .tolerations
            .into_iter()
            .map(toleration_from_wire)
            .collect::<Result<_, _>>()?,
        labels: pairs_from_wire(found.labels),
        annotations: pairs_from_wire(found.annotations),
        volumes: found.volumes.into_iter().map(volume_from_wire).collect::<Result<_, _>>()?,
        image_pull_secrets: secrets.map(String::into_boxed_str).collect(),
        priority_class: boxed(found.priority_class),
        runtime_class: boxed(found.runtime_class),
    };
    Ok(Pod { container: container::from_wire(container)?, options })
}

fn pairs_to_wire(pairs: &Pairs) -> Vec<wire::Pair> {
    let pair = |(name, value): &(Box<str>, Box<str>)| wire::Pair {
        name: name.to_string(),
        value: value.to_string(),
    };
    pairs.iter().map(pair).collect()
}

fn pairs_from_wire(pairs: Vec<wire::Pair>) -> Pairs {
    let pair = |pair: wire::Pair| (pair.name.into_boxed_str(), pair.value.into_boxed_str());
    pairs.into_iter().map(pair).collect()
}

fn toleration_to_wire(toleration: &Toleration) -> wire::Toleration {
    let effect = toleration.effect.map(|effect| match effect {
        TaintEffect::NoSchedule => wire::TaintEffect::NoSchedule,
        TaintEffect::PreferNoSchedule => wire::TaintEffect::PreferNoSchedule,
        TaintEffect::NoExecute => wire::TaintEffect::NoExecute,
    });
    wire::Toleration {
        key: toleration.key.to_string(),
        value: toleration.value.as_deref().map(str::to_owned),
        effect: effect.map(Into::into),
    }
}

fn toleration_from_wire(found: wire::Toleration) -> Result<Toleration, ConvertError> {
    let effect = |found: i32| match wire::TaintEffect::try_from(found) {
        Ok(wire::TaintEffect::NoSchedule) => Ok(TaintEffect::NoSchedule),
        Ok(wire::TaintEffect::PreferNoSchedule) => Ok(TaintEffect::PreferNoSchedule),
        Ok(wire::TaintEffect::NoExecute) => Ok(TaintEffect::NoExecute),
        Ok(wire::TaintEffect::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "work.pod.toleration.effect", found })
        }
    };
    Ok(Toleration {
        key: found.key.into_boxed_str(),
        value: found.value.map(String::into_boxed_str),
        effect: found.effect.map(effect).transpose()?,
    })
}

fn volume_to_wire(volume: &PodVolume) -> wire::PodVolume {
    let source = match &volume.source {
        VolumeSource::Claim(name) => Source::Claim(name.to_string()),
        VolumeSource::ConfigMap(name) => Source::ConfigMap(name.to_string()),
        VolumeSource::Secret(name) => Source::Secret(name.to_string()),
        VolumeSource::Empty => Source::Empty(wire::EmptyDirectory {}),
    };
    wire::PodVolume {
        source: Some(source),
        target: volume.target.to_string(),
        is_writable: volume.is_writable,
    }
}

fn volume_from_wire(found: wire::PodVolume) -> Result<PodVolume, ConvertError> {
    let source = match found.source {
        Some(Source::Claim(name)) => VolumeSource::Claim(name.into_boxed_str()),
        Some(Source::ConfigMap(name)) => VolumeSource::ConfigMap(name.into_boxed_str()),
        Some(Source::Secret(name)) => VolumeSource::Secret(name.into_boxed_str()),
        Some(Source::Empty(wire::EmptyDirectory {})) => VolumeSource::Empty,
        None => return Err(ConvertError::Missing { field: "work.pod.volume.source" }),
    };
    Ok(PodVolume { source, target: found.target.into_boxed_str(), is_writable: found.is_writable })
}
