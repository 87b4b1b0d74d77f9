//! Notices that the sentinels have agreed on another master while the former one still answers us.
//!
//! A master that is cut off from its sentinels accepts writes until it hears of its successor, and
//! these writes are lost. An error would never show this. Nodes of a cluster need no watch: one that
//! is cut off from the majority stops accepting writes by itself.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{Discovery, Topology};
use crate::redis::slots::SlotMap;

const PERIOD: Duration = Duration::from_secs(1);
/// How long sentinels may be silent before this is worth a warning.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Asks the sentinels from time to time until the topology is dropped.
pub(in crate::redis) async fn watch(topology: Weak<Topology>) {
    let (mut answered_at, mut has_warned) = (Instant::now(), false);
    loop {
        sleep(PERIOD).await;
        let Some(topology) = topology.upgrade() else { return };
        let Discovery::Sentinel(sentinels) = &topology.discovery else { return };
        match sentinels.master().await {
            Ok(master) => {
                (answered_at, has_warned) = (Instant::now(), false);
                if !topology.is_current(0, &master) {
                    topology.replace(SlotMap::of_one(master));
                }
            }
            Err(error) if !has_warned && SILENCE_MAX < answered_at.elapsed() => {
                has_warned = true;
                warn!(%error, "sentinels name no master, so a new one would not be noticed");
            }
            Err(_) => {}
        }
    }
}
