//! Volumes for claims, because nothing provides them here.

use std::path::Path;

use super::Kubernetes;

/// Creates a default storage class, and volumes in directories of this machine, which both nodes
/// can reach.
///
/// # Errors
///
/// Returns an error if the server refuses them.
pub fn create_volumes(cluster: &Kubernetes, dir: &Path, n: usize) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut manifest = String::from(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: test\n  \
         annotations: { storageclass.kubernetes.io/is-default-class: 'true' }\n\
         provisioner: kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer\n",
    );
    for number in 0..n {
        let path = dir.join(format!("volume-{number}"));
        std::fs::create_dir_all(&path)?;
        // Nothing changes the owner of such a volume for the pod that uses it.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777))?;
        manifest.push_str(&format!(
            "---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: volume-{number} }}\n\
             spec:\n  capacity: {{ storage: 100Gi }}\n  accessModes: [ReadWriteOnce]\n  \
             storageClassName: test\n  persistentVolumeReclaimPolicy: Retain\n  \
             hostPath: {{ path: {} }}\n",
            path.display()
        ));
    }
    cluster.apply(&manifest)
}
