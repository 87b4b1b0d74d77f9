//! The cluster under torture: what can be done to it depends on the host and on its Redis.

use anyhow::Context as _;

use crate::clocks::Clocks;
use crate::coordinators::{Coordinators, Variant};
use crate::servers::StoreKind;
use crate::small_disk::SmallDisk;

use super::faults::Kind;

/// A cluster, the faults that can be injected, and why others cannot.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) cluster: Coordinators,
    pub(super) kinds: Vec<Kind>,
    pub(super) not_run: Vec<String>,
}

impl Setting {
    /// Starts three coordinators and three workers.
    pub(super) fn start(store: StoreKind) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (mut kinds, mut not_run) = (Kind::all(store), Vec::new());
        if store != StoreKind::Redis {
            not_run.push(
                "slow, silent and cut connections to redis: its servers tell clients their own \
                 addresses"
                    .to_owned(),
            );
        }
        let clocks = Clocks::create(dir.path().join("clocks"));
        if let Err(error) = &clocks {
            kinds.retain(|kind| !Kind::CLOCKS.contains(kind));
            not_run.push(format!("steps of clocks: {error:#}"));
        }
        let disks = SmallDisk::mount(&dir.path().join("disk"), 1).map(drop);
        if let Err(error) = &disks {
            kinds.retain(|kind| !Kind::DISKS.contains(kind));
            not_run.push(format!("full disks: {error:#}"));
        }
        let variant = Variant {
            store,
            has_wires: true,
            has_small_disks: disks.is_ok(),
            clocks: clocks.ok(),
            ..Variant::default()
        };
        let cluster = Coordinators::start_in(dir, variant, 3, 3).context("start a cluster")?;
        Ok(Self { cluster, kinds, not_run })
    }
}
