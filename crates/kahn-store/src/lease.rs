//! The lease of a partition: who holds it, for how long, and when it may be taken.

use std::time::Duration;

/// The default of [`LogStore::lease_ttl`](crate::LogStore::lease_ttl).
pub const LEASE_TTL: Duration = Duration::from_secs(3);

/// How often an owner renews its lease while it lasts.
pub(crate) const RENEWALS_PER_TTL: u32 = 4;

/// Who owns a partition, or wants to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// A number drawn at random by each process.
    pub nonce: u64,
    /// The URL at which other processes reach it; empty if they cannot.
    pub address: String,
}

impl Owner {
    /// Returns an owner that other processes cannot reach.
    #[must_use]
    pub fn without_address(nonce: u64) -> Self {
        Self { nonce, address: String::new() }
    }
}

/// Under which condition a partition is taken from its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its lease has expired, or was released.
    IfFree,
    /// Its nonce is this one, or its lease has expired: it was an earlier process of the claimant.
    Succeeding(u64),
    /// Like [`IfFree`](Self::IfFree), or [`Succeeding`](Self::Succeeding) if there is an earlier
    /// nonce, but only while [`LogStore::n_outages`](crate::LogStore::n_outages) still returns this
    /// number. The request is not repeated over another connection.
    Undisturbed {
        /// The expected number.
        n_outages: u64,
        /// The nonce of an earlier process of the claimant.
        earlier: Option<u64>,
    },
    /// None. This is always safe, because the owner is fenced.
    Force,
}

impl Claim {
    /// Returns whether an owner with an unexpired lease gives way.
    pub(crate) fn replaces(self, nonce: u64) -> bool {
        match self {
            Self::IfFree => false,
            Self::Succeeding(earlier) => earlier == nonce,
            Self::Undisturbed { earlier, .. } => earlier == Some(nonce),
            Self::Force => true,
        }
    }
}
