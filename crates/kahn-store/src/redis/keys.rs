//! The names of all keys. Keys of one partition share a hash tag, and therefore a cluster slot.

use kahn_model::Partition;

use crate::redis::slots::slot_of;

const PREFIX: &str = "kahn";

/// The id and size of the cluster: a hash of `id`, `partitions`, and `complete` once all partitions
/// have the id.
pub(super) fn meta() -> String {
    format!("{PREFIX}:meta")
}

/// Returns the slot of all keys of a partition.
pub(super) fn slot(partition: Partition) -> u16 {
    slot_of(&Keys::new(partition).m)
}

/// The keys of one partition.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// A hash: `id` of the cluster, `e` epoch, `f` fence, `o` owner, `s` and `h` sequence number and
    /// hash of the head.
    ///
    /// The id is in each partition, because a shard of a Redis Cluster can be lost alone.
    pub(super) m: String,
    /// A stream: entries `<seq>-0` with `h` hash and `b` payload, in this order.
    pub(super) log: String,
    /// The nonce and the address of the owner; expires.
    pub(super) lease: String,
    /// A hash: `s` and `h` sequence number and hash, `b` manifest.
    pub(super) checkpoint: String,
    /// The set of the names of all blobs.
    pub(super) blobs: String,
}

impl Keys {
    pub(super) fn new(partition: Partition) -> Self {
        let key = |what: &str| format!("{PREFIX}:{{{partition}}}:{what}");
        Self {
            m: key("m"),
            log: key("log"),
            lease: key("lease"),
            checkpoint: key("checkpoint"),
            blobs: key("blobs"),
        }
    }

    pub(super) fn blob(partition: Partition, name: &str) -> String {
        format!("{PREFIX}:{{{partition}}}:blob:{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_partition_carry_its_tag() {
        let keys = Keys::new(Partition(7));
        assert_eq!(keys.m, "kahn:{p007}:m");
        assert_eq!(Keys::blob(Partition(7), "a"), "kahn:{p007}:blob:a");
        for key in [&keys.log, &keys.lease, &keys.checkpoint, &keys.blobs] {
            assert_eq!(slot_of(key), slot(Partition(7)));
        }
    }
}
