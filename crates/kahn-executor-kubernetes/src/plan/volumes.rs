//! The volumes of a pod.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kahn_executor::Assignment;
use kahn_executor::secrets::CONTAINER_DIR;
use kahn_model::{Pod as Asked, PodVolume, SecretTarget, VolumeSource};

use crate::secret::file_key;
use crate::settings::KubernetesSettings;

const TMP: &str = "/tmp";

/// Returns the volumes of a pod, and where they are mounted. `secret` is the name of the Secret with
/// the secrets of the task.
pub(super) fn of(
    assignment: &Assignment,
    asked: &Asked,
    settings: &KubernetesSettings,
    secret: &str,
) -> (Vec<Volume>, Vec<VolumeMount>) {
    let asked = &asked.options.volumes;
    let mut volumes: Vec<Volume> = asked.iter().enumerate().map(volume).collect();
    let mut mounts: Vec<VolumeMount> = asked.iter().enumerate().map(mount).collect();
    let has_own_tmp = asked.iter().any(|volume| volume.target.trim_end_matches('/') == TMP);
    if !has_own_tmp {
        volumes.push(tmp(settings.tmp_bytes));
        mounts.push(mounted("tmp".into(), TMP, false));
    }
    let files: Vec<KeyToPath> = files(assignment).collect();
    if !files.is_empty() {
        let source = SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(files),
            default_mode: Some(0o440),
            optional: Some(false),
        };
        let name = "kahn-secrets".to_owned();
        mounts.push(mounted(name.clone(), CONTAINER_DIR, true));
        volumes.push(Volume { name, secret: Some(source), ..Volume::default() });
    }
    (volumes, mounts)
}

fn files(assignment: &Assignment) -> impl Iterator<Item = KeyToPath> {
    assignment.work.secrets.iter().filter_map(|used| match &used.target {
        SecretTarget::File(name) => {
            Some(KeyToPath { key: file_key(name), path: name.to_string(), mode: None })
        }
        SecretTarget::Variable(_) | SecretTarget::Header(_) => None,
    })
}

fn tmp(n_bytes: u64) -> Volume {
    let size_limit = Some(Quantity(n_bytes.to_string()));
    let source = EmptyDirVolumeSource { medium: None, size_limit };
    Volume { name: "tmp".into(), empty_dir: Some(source), ..Volume::default() }
}

fn volume((at, asked): (usize, &PodVolume)) -> Volume {
    let volume = Volume { name: format!("volume-{at}"), ..Volume::default() };
    match &asked.source {
        VolumeSource::Claim(name) => Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.to_string(),
                read_only: Some(!asked.is_writable),
            }),
            ..volume
        },
        VolumeSource::ConfigMap(name) => Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: name.to_string(),
                ..ConfigMapVolumeSource::default()
            }),
            ..volume
        },
        VolumeSource::Secret(name) => Volume {
            secret: Some(SecretVolumeSource {
                secret_name: Some(name.to_string()),
                ..SecretVolumeSource::default()
            }),
            ..volume
        },
        VolumeSource::Empty => {
            Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..volume }
        }
    }
}

fn mount((at, asked): (usize, &PodVolume)) -> VolumeMount {
    mounted(format!("volume-{at}"), &asked.target, !asked.is_writable)
}

fn mounted(name: String, path: &str, is_read_only: bool) -> VolumeMount {
    VolumeMount {
        name,
        mount_path: path.to_owned(),
        read_only: Some(is_read_only),
        ..VolumeMount::default()
    }
}
