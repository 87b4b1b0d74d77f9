//! How long finished runs and their output are kept: the section `[coordinator.retention]`.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_runtime::human_duration;
use serde::{Deserialize, Serialize};

/// How long finished runs and their output are kept. Whatever is exceeded first counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// How often to check, and to archive runs.
    #[serde(with = "human_duration")]
    pub check_every: Duration,
    /// How long after its end a run is archived: everything about it but a summary is moved to the
    /// blob store. Without a blob store, no run is archived.
    #[serde(with = "human_duration")]
    pub archive_after: Duration,
    /// What applies to each namespace.
    pub default: Retain,
    /// What applies to single namespaces; the rest is as in `default`.
    pub namespaces: BTreeMap<String, Retain>,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            check_every: Duration::from_secs(30),
            archive_after: Duration::from_secs(600),
            default: Retain::default(),
            namespaces: BTreeMap::new(),
        }
    }
}

/// What is kept of the finished runs of a namespace. What is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retain {
    /// Number of finished runs.
    pub runs: Option<usize>,
    /// How long a run is kept after its end.
    pub run_age: Option<Age>,
    /// Bytes of all archived runs in the blob store, without their output. Runs are removed together
    /// with their histories.
    pub history_bytes: Option<u64>,
    /// Bytes of output of all finished runs.
    pub log_bytes: Option<u64>,
    /// How long output is kept after the end of its run.
    pub log_age: Option<Age>,
}

/// An age with a unit, such as `12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Age(#[serde(with = "human_duration")] pub Duration);

impl RetentionConfig {
    /// Returns what applies to a namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Retain {
        let (usual, own) = (&self.default, self.namespaces.get(namespace));
        let Some(own) = own else { return usual.clone() };
        Retain {
            runs: own.runs.or(usual.runs),
            run_age: own.run_age.or(usual.run_age),
            history_bytes: own.history_bytes.or(usual.history_bytes),
            log_bytes: own.log_bytes.or(usual.log_bytes),
            log_age: own.log_age.or(usual.log_age),
        }
    }

    /// Returns whether the size of output matters.
    pub(crate) fn needs_sizes(&self) -> bool {
        std::iter::once(&self.default)
            .chain(self.namespaces.values())
            .any(|retain| retain.log_bytes.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_overrides_only_what_it_sets() {
        let text =
            "[default]\nruns = 5\nrun_age = \"72h\"\n[namespaces.ci]\nruns = 1\nlog_bytes = 9\n";
        let config: RetentionConfig = toml::from_str(text).unwrap();
        assert_eq!(config.of("other"), config.default);
        let run_age = Some(Age(Duration::from_secs(72 * 3600)));
        let expected = Retain { runs: Some(1), run_age, log_bytes: Some(9), ..Retain::default() };
        assert_eq!(config.of("ci"), expected);
        assert!(config.needs_sizes());
        let error = toml::from_str::<RetentionConfig>("[default]\ncount = 5\n").unwrap_err();
        assert!(error.to_string().contains("run_age"), "{error}");
    }
}
