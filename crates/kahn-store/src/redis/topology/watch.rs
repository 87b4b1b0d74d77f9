//! Notices that the sentinels have agreed on another master while the former one still answers us.
//!
//! A master that is cut off from its sentinels accepts writes until it hears of its successor, and
//! these writes are lost. An error would never show this. Nodes of a cluster need no watch: one that
//! is cut off from the majority stops accepting writes by itself.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::{Discovery, Topology};
use crate::redis::slots::SlotMap;

const PERIOD: Duration = Duration::from_secs(1);
/// How long sentinels may be silent before this is worth a warning.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Asks one sentinel after the other until the topology is dropped.
pub(in crate::redis) async fn watch(topology: Weak<Topology>) {
    let (mut answered_at, mut has_warned) = (Instant::now(), false);
    for n in 0.. {
        sleep(PERIOD).await;
        let Some(topology) = topology.upgrade() else { return };
        let Discovery::Sentinel(sentinels) = &topology.discovery else { return };
        let asked = timeout(PERIOD, sentinels.master_according_to(n)).await;
        let Ok(Some(master)) = asked else {
            if !has_warned && SILENCE_MAX < answered_at.elapsed() {
                has_warned = true;
                warn!("no sentinel answers, so a change of the master would not be noticed");
            }
            continue;
        };
        (answered_at, has_warned) = (Instant::now(), false);
        if topology.is_current(0, &master) {
            continue;
        }
        // It may be this sentinel that is out of date.
        match timeout(PERIOD, sentinels.master()).await {
            Ok(Ok(master)) => topology.replace(SlotMap::of_one(master)),
            Ok(Err(error)) => debug!(%error, "sentinels do not name a master"),
            Err(_) => debug!("sentinels do not answer"),
        }
    }
}
