//! The manifest: what a backup consists of.

use kahn_blob::Key;
use kahn_store::{ClusterId, ClusterMeta};
use serde::{Deserialize, Serialize};

use crate::error::BackupError;

/// The name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// The format that is written. All formats up to it can be read.
const FORMAT: u32 = 1;
/// The largest manifest, in bytes: a few hundred thousand parts.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// The largest part, in bytes.
pub(crate) const PART_BYTES_MAX: u64 = 64 << 20;
/// The largest number of partitions that a cluster can have.
const PARTITIONS_MAX: u16 = 1024;

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the backup.
    pub format: u32,
    /// The id of the cluster, 32 hexadecimal digits.
    pub cluster: String,
    /// The version of the coordinator.
    pub version: String,
    /// When the backup began, in RFC 3339. Everything acknowledged before is in it.
    pub began_at: String,
    /// When it ended.
    pub ended_at: String,
    /// The partitions, in order.
    pub partitions: Vec<PartitionInfo>,
}

/// The backup of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// The number of the last log entry.
    pub seq: u64,
    /// What is in it.
    #[serde(flatten)]
    pub counts: Counts,
    /// The objects, in order.
    pub parts: Vec<Part>,
}

/// How many runs and tasks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Runs that have not ended.
    pub live_runs: u64,
    /// Runs that have ended.
    pub finished_runs: u64,
    /// Runs that have ended, and of which the blob store of the cluster has everything but a summary.
    #[serde(default)]
    pub archived_runs: u64,
    /// Tasks of all runs.
    pub tasks: u64,
}

impl Counts {
    /// Adds those of another partition.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            live_runs: self.live_runs.saturating_add(other.live_runs),
            finished_runs: self.finished_runs.saturating_add(other.finished_runs),
            archived_runs: self.archived_runs.saturating_add(other.archived_runs),
            tasks: self.tasks.saturating_add(other.tasks),
        }
    }
}

/// An object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    pub(crate) fn new(cluster: String, version: String, began_at: String) -> Self {
        let ended_at = String::new();
        Self { format: FORMAT, cluster, version, began_at, ended_at, partitions: Vec::new() }
    }

    /// Parses and checks a manifest. `url` is for messages.
    pub(crate) fn parse(bytes: &[u8], url: &str) -> Result<Self, BackupError> {
        /// What every format has.
        #[derive(Deserialize)]
        struct AnyFormat {
            format: u32,
            #[serde(default)]
            version: String,
        }
        let invalid = |reason: String| BackupError::Manifest { url: url.to_owned(), reason };
        let any: AnyFormat = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        if FORMAT < any.format {
            let AnyFormat { format: found, version } = any;
            let url = url.to_owned();
            return Err(BackupError::NewerFormat { url, found, known: FORMAT, version });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        manifest.check().map_err(|reason| invalid(reason.to_owned()))?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.id().is_none() {
            return Err("the id of the cluster is not 32 hexadecimal digits");
        }
        if !(1..=usize::from(PARTITIONS_MAX)).contains(&self.partitions.len()) {
            return Err("the number of partitions is not possible");
        }
        let mut parts = self.partitions.iter().flat_map(|partition| &partition.parts);
        if parts.any(|part| !(1..=PART_BYTES_MAX).contains(&part.bytes)) {
            return Err("the size of a part is not possible");
        }
        let mut parts = self.partitions.iter().flat_map(|partition| &partition.parts);
        if parts.any(|part| Key::new(&part.name).is_err()) {
            return Err("the name of a part is not possible");
        }
        Ok(())
    }

    fn id(&self) -> Option<ClusterId> {
        let is_id = self.cluster.len() == 32;
        let id = u128::from_str_radix(&self.cluster, 16).ok().filter(|_| is_id);
        id.map(ClusterId)
    }

    /// Returns the properties of the cluster that was backed up.
    #[must_use]
    pub fn meta(&self) -> ClusterMeta {
        let partitions = u16::try_from(self.partitions.len()).unwrap_or(PARTITIONS_MAX);
        ClusterMeta { id: self.id().unwrap_or(ClusterId(0)), partitions }
    }

    /// Returns the number of runs and tasks in all partitions.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.partitions.iter().map(|partition| partition.counts);
        counts.fold(Counts::default(), Counts::plus)
    }

    /// Returns the number of parts, and their total size in bytes.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        let parts = || self.partitions.iter().flat_map(|partition| &partition.parts);
        (parts().count(), parts().map(|part| part.bytes).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let part = Part { name: "p000/00000".into(), bytes: 1, sha256: "00".into() };
        let partition = PartitionInfo { parts: vec![part], ..PartitionInfo::default() };
        let cluster = "0123456789abcdef0123456789abcdef".to_owned();
        let partitions = vec![partition];
        Manifest { partitions, ..Manifest::new(cluster, "1.0.0".into(), "then".into()) }
    }

    fn parse(manifest: &Manifest) -> Result<Manifest, String> {
        let bytes = serde_json::to_vec(manifest).unwrap();
        Manifest::parse(&bytes, "here").map_err(|error| error.to_string())
    }

    #[test]
    fn a_manifest_survives_its_bytes_and_what_is_not_one_is_refused() {
        assert_eq!(parse(&manifest()), Ok(manifest()));
        for bytes in [&b""[..], b"{}", b"{\"format\": 1}", b"[]"] {
            assert!(Manifest::parse(bytes, "here").is_err());
        }
        let refused: [fn(&mut Manifest); 5] = [
            |manifest| manifest.cluster.push('0'),
            |manifest| manifest.partitions.clear(),
            |manifest| manifest.partitions[0].parts[0].name = "../x".into(),
            |manifest| manifest.partitions[0].parts[0].bytes = u64::MAX,
            |manifest| manifest.partitions = vec![PartitionInfo::default(); 2000],
        ];
        for change in refused {
            let mut other = manifest();
            change(&mut other);
            assert!(parse(&other).unwrap_err().contains("manifest.json"), "{other:?}");
        }
    }

    #[test]
    fn a_newer_format_is_named_with_the_version_that_has_written_it() {
        let newer = br#"{ "format": 7, "version": "9.1.0", "anything": [] }"#;
        let error = Manifest::parse(newer, "here").unwrap_err().to_string();
        assert!(error.contains("format 7") && error.contains("9.1.0"), "{error}");
    }
}
