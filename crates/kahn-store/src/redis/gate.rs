//! The check of whether a server is configured to keep acknowledged writes.
//!
//! It is made of every server to which a connection is made, because a failover may promote one
//! whose configuration differs from that of its former master. Such a server is refused: writes
//! wait, with a message that names the setting, until it is corrected, which needs no restart.

mod settings;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use crate::durability::Durability;
use crate::error::{StoreError, UnsafeSetting};
pub(super) use settings::Settings;

/// What is required of a server.
#[derive(Debug)]
pub(super) struct Gate {
    allow_unsafe: bool,
    replicas: u32,
    /// Whether sentinels may replace the master while it still accepts writes.
    has_sentinels: bool,
    phase: Mutex<Phase>,
    /// The servers whose settings were accepted with a warning.
    warned: Mutex<BTreeSet<String>>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The store is being opened; the lowest level of the servers found so far.
    Opening(Option<Durability>),
    /// No server may offer less.
    Open(Durability),
}

impl Gate {
    pub(super) fn new(allow_unsafe: bool, replicas: u32, has_sentinels: bool) -> Self {
        Self {
            allow_unsafe,
            replicas,
            has_sentinels,
            phase: Mutex::new(Phase::Opening(None)),
            warned: Mutex::default(),
        }
    }

    /// Ends the opening and returns the level of the store.
    pub(super) fn close(&self) -> Durability {
        let mut phase = self.phase();
        let level = match *phase {
            Phase::Opening(lowest) => lowest.unwrap_or(Durability::Ephemeral),
            Phase::Open(level) => level,
        };
        *phase = Phase::Open(level);
        level
    }

    /// Checks the settings of a server to which a connection was made.
    pub(super) fn admit(&self, server: &str, settings: &Settings) -> Result<(), StoreError> {
        let mut phase = self.phase();
        let refused = match *phase {
            Phase::Opening(lowest) => {
                let level = settings.durability(self.replicas);
                *phase = Phase::Opening(Some(lowest.map_or(level, |lowest| lowest.min(level))));
                let checked = settings.check(server, self.replicas).map_err(StoreError::from);
                checked.and_then(|()| self.check_replicas(server, settings))
            }
            // The number of connected replicas is not checked: right after a failover there are
            // fewer, and each write waits for them anyway.
            Phase::Open(level) => {
                let checked = settings.check(server, self.replicas);
                checked.and_then(|()| self.check_level(server, settings, level)).map_err(Into::into)
            }
        };
        match refused {
            Err(error) if self.allow_unsafe => {
                if self.warns(server) {
                    warn!(%error, "redis is used although acknowledged work could be lost");
                }
                Ok(())
            }
            Ok(()) if self.has_sentinels && settings.min_replicas_to_write == 0 => {
                if self.warns(server) {
                    warn!(
                        server,
                        "min-replicas-to-write is 0: if this redis is cut off from its sentinels, \
                         it accepts writes that are lost unless the leader survives; set it to 1"
                    );
                }
                Ok(())
            }
            checked => checked,
        }
    }

    /// Returns whether to warn about a server, which is done once.
    fn warns(&self, server: &str) -> bool {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned())
    }

    fn check_replicas(&self, server: &str, settings: &Settings) -> Result<(), StoreError> {
        if self.replicas <= settings.connected_replicas {
            return Ok(());
        }
        Err(StoreError::TooFewReplicas {
            server: server.to_owned(),
            found: settings.connected_replicas,
            wanted: self.replicas,
        })
    }

    /// Checks that a promoted server does not flush less often than those found at the start. The
    /// other settings that lower the level are refused in any case.
    fn check_level(
        &self,
        server: &str,
        settings: &Settings,
        level: Durability,
    ) -> Result<(), UnsafeSetting> {
        if level <= settings.durability(self.replicas) {
            return Ok(());
        }
        Err(UnsafeSetting {
            server: server.to_owned(),
            setting: "appendfsync",
            found: settings.appendfsync.clone(),
            needed: "always, as when the coordinator started",
            way_out: "CONFIG SET appendfsync always",
        })
    }

    fn phase(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::settings::tests::safe;
    use super::*;

    #[test]
    fn the_level_of_a_store_is_the_lowest_of_its_servers() {
        let gate = Gate::new(false, 0, false);
        let always = Settings { appendfsync: "always".to_owned(), ..safe() };
        gate.admit("a", &always).unwrap();
        gate.admit("b", &safe()).unwrap();
        assert_eq!(gate.close(), Durability::Process);
        gate.admit("c", &safe()).unwrap();
    }

    #[test]
    fn a_promoted_server_must_flush_as_often_as_the_first_did() {
        for allow_unsafe in [false, true] {
            let gate = Gate::new(allow_unsafe, 0, false);
            gate.admit("a", &Settings { appendfsync: "always".to_owned(), ..safe() }).unwrap();
            assert_eq!(gate.close(), Durability::Disk);
            let promoted = gate.admit("b:1", &safe());
            assert_eq!(promoted.is_ok(), allow_unsafe);
            if let Err(error) = promoted {
                let text = error.to_string();
                assert!(text.contains("b:1") && text.contains("appendfsync"), "{text}");
            }
        }
    }

    #[test]
    fn replicas_must_be_connected_at_the_start_only() {
        let replicated = Settings {
            appendfsync: "always".to_owned(),
            min_replicas_to_write: 1,
            connected_replicas: 1,
            ..safe()
        };
        let alone = Settings { connected_replicas: 0, ..replicated.clone() };
        let gate = Gate::new(false, 1, false);
        let refused = gate.admit("a:1", &alone).unwrap_err();
        assert!(matches!(refused, StoreError::TooFewReplicas { found: 0, wanted: 1, .. }));
        let gate = Gate::new(false, 1, false);
        gate.admit("a:1", &replicated).unwrap();
        assert_eq!(gate.close(), Durability::Replicated);
        gate.admit("b:1", &alone).unwrap();
    }
}
