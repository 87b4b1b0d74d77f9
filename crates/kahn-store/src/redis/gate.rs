//! The check at startup of whether this Redis is configured to keep acknowledged writes.

use std::collections::BTreeMap;

use ::redis::aio::MultiplexedConnection;

use crate::durability::Durability;
use crate::error::{StoreError, UnsafeSetting};

/// The settings that determine what an acknowledged write survives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    aof_enabled: String,
    aof_last_write_status: String,
    appendfsync: String,
    maxmemory_policy: String,
}

impl Settings {
    /// Queries the server. Settings that it does not reveal are left empty, which counts as unsafe.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, StoreError> {
        let mut info = ::redis::cmd("INFO");
        let text: String = info.arg("persistence").query_async(connection).await?;
        let status: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let one = |name: &str| status.get(name).copied().unwrap_or_default().to_owned();
        Ok(Self {
            aof_enabled: one("aof_enabled"),
            aof_last_write_status: one("aof_last_write_status"),
            appendfsync: config(connection, "appendfsync").await?,
            maxmemory_policy: config(connection, "maxmemory-policy").await?,
        })
    }

    /// Returns the durability that these settings provide.
    pub(super) fn durability(&self) -> Durability {
        match (self.aof_enabled.as_str(), self.appendfsync.as_str()) {
            ("1", "always") => Durability::Disk,
            ("1", _) => Durability::Process,
            _ => Durability::Ephemeral,
        }
    }

    /// Returns an error for the first setting that could lose acknowledged work.
    pub(super) fn check(&self) -> Result<(), UnsafeSetting> {
        if self.aof_enabled != "1" {
            return Err(UnsafeSetting {
                setting: "appendonly",
                found: if self.aof_enabled == "0" { "no" } else { "unknown" }.to_owned(),
                needed: "yes",
                way_out: "CONFIG SET appendonly yes",
            });
        }
        if !matches!(self.appendfsync.as_str(), "everysec" | "always") {
            return Err(UnsafeSetting {
                setting: "appendfsync",
                found: self.appendfsync.clone(),
                needed: "everysec or always",
                way_out: "CONFIG SET appendfsync everysec",
            });
        }
        if self.maxmemory_policy != "noeviction" {
            return Err(UnsafeSetting {
                setting: "maxmemory-policy",
                found: self.maxmemory_policy.clone(),
                needed: "noeviction",
                way_out: "CONFIG SET maxmemory-policy noeviction",
            });
        }
        if self.aof_last_write_status != "ok" {
            return Err(UnsafeSetting {
                setting: "aof_last_write_status",
                found: self.aof_last_write_status.clone(),
                needed: "ok",
                way_out: "free space on the disk of redis, then CONFIG SET appendonly yes",
            });
        }
        Ok(())
    }
}

/// Returns one setting, or an empty string if the server does not reveal it.
async fn config(connection: &mut MultiplexedConnection, name: &str) -> Result<String, StoreError> {
    let mut get = ::redis::cmd("CONFIG");
    let got = get.arg("GET").arg(name).query_async::<Vec<String>>(connection).await;
    match got {
        Ok(pair) => Ok(pair.into_iter().nth(1).unwrap_or_default()),
        Err(error) if error.is_io_error() => Err(error.into()),
        Err(_) => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe() -> Settings {
        Settings {
            aof_enabled: "1".to_owned(),
            aof_last_write_status: "ok".to_owned(),
            appendfsync: "everysec".to_owned(),
            maxmemory_policy: "noeviction".to_owned(),
        }
    }

    #[track_caller]
    fn check_refused(settings: &Settings, setting: &str, found: &str) {
        let refused = settings.check().unwrap_err();
        assert_eq!((refused.setting, refused.found.as_str()), (setting, found));
    }

    #[test]
    fn safe_settings_pass_and_give_their_level() {
        assert_eq!(safe().check(), Ok(()));
        assert_eq!(safe().durability(), Durability::Process);
        let always = Settings { appendfsync: "always".to_owned(), ..safe() };
        assert_eq!((always.check(), always.durability()), (Ok(()), Durability::Disk));
    }

    #[test]
    fn each_unsafe_setting_is_named_with_its_value() {
        let off = Settings { aof_enabled: "0".to_owned(), ..safe() };
        check_refused(&off, "appendonly", "no");
        assert_eq!(off.durability(), Durability::Ephemeral);
        check_refused(&Settings { appendfsync: "no".to_owned(), ..safe() }, "appendfsync", "no");
        let policy = "allkeys-lru".to_owned();
        check_refused(
            &Settings { maxmemory_policy: policy, ..safe() },
            "maxmemory-policy",
            "allkeys-lru",
        );
        let status = "err".to_owned();
        check_refused(
            &Settings { aof_last_write_status: status, ..safe() },
            "aof_last_write_status",
            "err",
        );
    }
}
