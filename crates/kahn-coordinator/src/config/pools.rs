//! Pools of workers: the sections `[coordinator.pools.NAME]`.

use std::collections::{BTreeMap, BTreeSet};

use kahn_core::PoolSettings;
use kahn_model::{ActionKind, FunctionCall, Labels, Name, POOL_LABEL, SecretUse};
use serde::{Deserialize, Serialize};

/// Maximum number of pools.
const POOLS_MAX: usize = 100;

/// What the workers of a pool are like, for the time when it has none. What is not set is learned from
/// its workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Labels of each worker.
    pub labels: BTreeMap<String, String>,
    /// The capacity of each worker, such as `cpu=2,memory=4Gi`.
    pub capacity: Option<String>,
    /// What each worker can execute, such as `process` or `container`.
    pub executors: Vec<String>,
    /// The functions that each worker has registered.
    pub functions: Vec<String>,
    /// The secrets that each worker has.
    pub secrets: Vec<String>,
    /// The maximum number of workers. Tasks that they cannot take count for other pools.
    pub workers_max: Option<u32>,
}

/// Why a pool is invalid: its name, and the reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("pools.{pool}: {reason}")]
pub struct InvalidPool {
    /// The name of the pool.
    pub pool: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Returns the settings of all pools.
///
/// # Errors
///
/// Returns an [`InvalidPool`] for the first pool that is invalid.
pub(super) fn settings(
    pools: &BTreeMap<String, PoolConfig>,
) -> Result<Vec<PoolSettings>, InvalidPool> {
    let invalid = |pool: &str, reason| InvalidPool { pool: pool.to_owned(), reason };
    if let Some(pool) = pools.keys().nth(POOLS_MAX) {
        return Err(invalid(pool, format!("there are more than {POOLS_MAX} pools")));
    }
    let each = |(name, pool): (&String, &PoolConfig)| {
        pool.settings(name).map_err(|reason| invalid(name, reason))
    };
    pools.iter().map(each).collect()
}

impl PoolConfig {
    fn settings(&self, name: &str) -> Result<PoolSettings, String> {
        let name = Name::new(name).map_err(|error| error.to_string())?;
        let capacity = self.capacity.as_ref().map(|text| text.parse()).transpose();
        let capacity = capacity.map_err(|error| format!("capacity: {error}"))?;
        Ok(PoolSettings {
            labels: self.labels(&name)?,
            capacity,
            executors: self.executors()?,
            workers_max: self.workers_max,
            ..PoolSettings::new(name)
        })
    }

    fn labels(&self, name: &Name) -> Result<Labels, String> {
        if self.labels.get(POOL_LABEL).is_some_and(|value| value != name.as_str()) {
            return Err(format!("labels: `{POOL_LABEL}` is always the name of the pool"));
        }
        let mut labels = self.labels.clone();
        let functions = self.functions.iter().map(|name| FunctionCall::label_of(name));
        let secrets = self.secrets.iter().map(|name| SecretUse::label_of(name));
        labels.extend(functions.chain(secrets).map(|label| (label, String::new())));
        Ok(labels)
    }

    fn executors(&self) -> Result<Option<BTreeSet<ActionKind>>, String> {
        let kind = |name: &String| {
            ActionKind::from_name(name).ok_or_else(|| {
                let known = ActionKind::ALL.map(ActionKind::as_str).join(", ");
                format!("executors: `{name}` is not known; there are {known}")
            })
        };
        let kinds = self.executors.iter().map(kind).collect::<Result<BTreeSet<_>, _>>()?;
        Ok((!kinds.is_empty()).then_some(kinds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(pool: PoolConfig) -> String {
        settings(&[("gpu".to_owned(), pool)].into()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_configured_becomes_labels_kinds_and_capacity() {
        let pool = PoolConfig {
            labels: [("zone".to_owned(), "eu".to_owned())].into(),
            capacity: Some("cpu=2,memory=4Gi".into()),
            executors: vec!["container".into()],
            functions: vec!["resize".into()],
            secrets: vec!["token".into()],
            workers_max: Some(7),
        };
        let settings = settings(&[("gpu".to_owned(), pool)].into()).unwrap().remove(0);
        let labels: Vec<&str> = settings.labels.keys().map(String::as_str).collect();
        assert_eq!(labels, ["function/resize", "secret/token", "zone"]);
        assert_eq!(settings.capacity.unwrap().to_string(), "cpu=2 memory=4Gi");
        assert_eq!(settings.executors.unwrap(), BTreeSet::from([ActionKind::Container]));
        assert_eq!((settings.name.as_str(), settings.workers_max), ("gpu", Some(7)));
    }

    #[test]
    fn an_invalid_pool_is_named_with_what_would_be_right() {
        let executors = vec!["docker".to_owned()];
        let text = reason(PoolConfig { executors, ..PoolConfig::default() });
        assert!(text.starts_with("pools.gpu: executors: `docker`"), "{text}");
        assert!(text.contains("container, http"), "{text}");
        let labels = [("pool".to_owned(), "other".to_owned())].into();
        let text = reason(PoolConfig { labels, ..PoolConfig::default() });
        assert_eq!(text, "pools.gpu: labels: `pool` is always the name of the pool");
        let capacity = Some("cpu=many".to_owned());
        let text = reason(PoolConfig { capacity, ..PoolConfig::default() });
        assert!(text.starts_with("pools.gpu: capacity: "), "{text}");
        let many = (0..=POOLS_MAX).map(|n| (format!("p{n:03}"), PoolConfig::default())).collect();
        assert_eq!(settings(&many).unwrap_err().pool, "p100");
    }
}
