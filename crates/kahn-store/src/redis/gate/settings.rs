//! The settings that determine what an acknowledged write survives.

use std::collections::BTreeMap;

use ::redis::{Pipeline, Value};

use crate::durability::Durability;
use crate::error::UnsafeSetting;

const CONFIGURED: [&str; 3] = ["appendfsync", "maxmemory-policy", "min-replicas-to-write"];

/// What a server says about itself. What it does not reveal is empty or 0, which counts as unsafe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::redis) struct Settings {
    /// `master` or `slave`.
    pub(in crate::redis) role: String,
    /// Whether it is a node of a Redis Cluster.
    pub(in crate::redis) is_in_cluster: bool,
    pub(in crate::redis) connected_replicas: u32,
    pub(super) min_replicas_to_write: u32,
    pub(super) aof_enabled: String,
    pub(super) aof_last_write_status: String,
    pub(super) appendfsync: String,
    pub(super) maxmemory_policy: String,
}

impl Settings {
    /// The number of commands added by [`ask`](Self::ask).
    pub(in crate::redis) const N_COMMANDS: usize = 1 + CONFIGURED.len();

    /// Adds the commands that query a server.
    pub(in crate::redis) fn ask(commands: &mut Pipeline) {
        // `ROLE` would tell the same as `INFO` about the role, but need another permission.
        commands.cmd("INFO");
        for name in CONFIGURED {
            commands.cmd("CONFIG").arg("GET").arg(name);
        }
    }

    /// Parses the answers.
    pub(in crate::redis) fn parse(answers: &[Value]) -> Self {
        let (info, configured) = answers.split_first().unwrap_or((&Value::Nil, &[]));
        let info = text_of(info);
        let status: BTreeMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let one = |name: &str| status.get(name).copied().unwrap_or_default().to_owned();
        let mut configured = configured.iter().map(setting);
        let mut next = || configured.next().unwrap_or_default();
        Self {
            role: one("role"),
            is_in_cluster: one("cluster_enabled") == "1",
            connected_replicas: one("connected_slaves").parse().unwrap_or_default(),
            aof_enabled: one("aof_enabled"),
            aof_last_write_status: one("aof_last_write_status"),
            appendfsync: next(),
            maxmemory_policy: next(),
            min_replicas_to_write: next().parse().unwrap_or_default(),
        }
    }

    /// Returns the durability that these settings provide if each write waits for `replicas`.
    pub(super) fn durability(&self, replicas: u32) -> Durability {
        match (self.aof_enabled.as_str(), self.appendfsync.as_str()) {
            ("1", "always") if 0 < replicas => Durability::Replicated,
            ("1", "always") => Durability::Disk,
            ("1", _) => Durability::Process,
            _ => Durability::Ephemeral,
        }
    }

    /// Returns an error for the first setting that could lose acknowledged work.
    pub(super) fn check(&self, server: &str, replicas: u32) -> Result<(), UnsafeSetting> {
        let refused = |setting, found: &str, needed, way_out| {
            let (server, found) = (server.to_owned(), found.to_owned());
            Err(UnsafeSetting { server, setting, found, needed, way_out })
        };
        if self.aof_enabled != "1" {
            let found = if self.aof_enabled == "0" { "no" } else { "unknown" };
            return refused("appendonly", found, "yes", "CONFIG SET appendonly yes");
        }
        if 0 < replicas && self.appendfsync != "always" {
            // A master that restarts before it is replaced would otherwise return with less than its
            // replicas have, and they would follow it.
            let needed = "always, because coordinator.store.replicas is set";
            let way_out = "CONFIG SET appendfsync always";
            return refused("appendfsync", &self.appendfsync, needed, way_out);
        }
        if !matches!(self.appendfsync.as_str(), "everysec" | "always") {
            let (needed, way_out) = ("everysec or always", "CONFIG SET appendfsync everysec");
            return refused("appendfsync", &self.appendfsync, needed, way_out);
        }
        if self.maxmemory_policy != "noeviction" {
            let way_out = "CONFIG SET maxmemory-policy noeviction";
            return refused("maxmemory-policy", &self.maxmemory_policy, "noeviction", way_out);
        }
        if 0 < replicas && self.min_replicas_to_write == 0 {
            let needed = "at least 1, because coordinator.store.replicas is set";
            let way_out = "CONFIG SET min-replicas-to-write 1";
            return refused("min-replicas-to-write", "0", needed, way_out);
        }
        if self.aof_last_write_status != "ok" {
            let way_out = "free space on the disk of redis, then CONFIG SET appendonly yes";
            return refused("aof_last_write_status", &self.aof_last_write_status, "ok", way_out);
        }
        Ok(())
    }
}

/// Returns the value in the answer to `CONFIG GET`, or an empty string if it was refused.
fn setting(answer: &Value) -> String {
    match answer {
        Value::Array(pair) => pair.get(1).map(text_of).unwrap_or_default(),
        _ => String::new(),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::redis::gate) fn safe() -> Settings {
        Settings {
            role: "master".to_owned(),
            aof_enabled: "1".to_owned(),
            aof_last_write_status: "ok".to_owned(),
            appendfsync: "everysec".to_owned(),
            maxmemory_policy: "noeviction".to_owned(),
            ..Settings::default()
        }
    }

    #[track_caller]
    fn check_refused(settings: &Settings, replicas: u32, setting: &str, found: &str) {
        let refused = settings.check("host:1", replicas).unwrap_err();
        assert_eq!((refused.setting, refused.found.as_str()), (setting, found));
        assert_eq!(refused.server, "host:1");
    }

    #[test]
    fn safe_settings_pass_and_give_their_level() {
        assert_eq!(safe().check("a", 0), Ok(()));
        assert_eq!(safe().durability(0), Durability::Process);
        let always = Settings { appendfsync: "always".to_owned(), ..safe() };
        assert_eq!((always.check("a", 0), always.durability(0)), (Ok(()), Durability::Disk));
        let replicated = Settings { min_replicas_to_write: 1, ..always };
        assert_eq!(replicated.check("a", 1), Ok(()));
        assert_eq!(replicated.durability(1), Durability::Replicated);
    }

    #[test]
    fn each_unsafe_setting_is_named_with_its_value() {
        let off = Settings { aof_enabled: "0".to_owned(), ..safe() };
        check_refused(&off, 0, "appendonly", "no");
        assert_eq!(off.durability(1), Durability::Ephemeral);
        let never = Settings { appendfsync: "no".to_owned(), ..safe() };
        check_refused(&never, 0, "appendfsync", "no");
        let evicting = Settings { maxmemory_policy: "allkeys-lru".to_owned(), ..safe() };
        check_refused(&evicting, 0, "maxmemory-policy", "allkeys-lru");
        let full = Settings { aof_last_write_status: "err".to_owned(), ..safe() };
        check_refused(&full, 0, "aof_last_write_status", "err");
    }

    #[test]
    fn waiting_for_replicas_needs_a_flush_of_each_write_and_a_master_that_stops_alone() {
        check_refused(&safe(), 1, "appendfsync", "everysec");
        let always = Settings { appendfsync: "always".to_owned(), ..safe() };
        check_refused(&always, 1, "min-replicas-to-write", "0");
    }

    #[test]
    fn answers_are_parsed_and_refusals_count_as_unsafe() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\naof_enabled:1\r\n\
                    aof_last_write_status:ok\r\ncluster_enabled:1\r\n";
        let pair = |name: &str, value: &str| Value::Array(vec![text(name), text(value)]);
        let answers = [
            text(info),
            pair("appendfsync", "everysec"),
            pair("maxmemory-policy", "noeviction"),
            pair("min-replicas-to-write", "1"),
        ];
        let expected = Settings {
            connected_replicas: 2,
            min_replicas_to_write: 1,
            is_in_cluster: true,
            ..safe()
        };
        assert_eq!(Settings::parse(&answers), expected);
        let refused = [text(info), Value::Nil, Value::Nil, Value::Nil];
        assert!(Settings::parse(&refused).check("a", 0).is_err());
        assert!(Settings::parse(&[]).check("a", 0).is_err());
    }
}
