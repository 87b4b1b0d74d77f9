//! Deliberate bugs in the protocol. The simulator must find each of them.

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The store accepts appends and renewals in any term.
    NoFenceCheck,
    /// The store accepts an append regardless of the head of the log.
    NoSequenceCheck,
    /// The coordinator sends commands before the decision is durable.
    ActBeforeCommit,
    /// After a takeover, leases keep their old expiry.
    NoFreshLease,
    /// The coordinator accepts any report on a task as one for the current lease.
    NoTokenCheck,
    /// The coordinator counts an attempt that exceeded a timeout as ended as soon as it asks the
    /// worker to stop it.
    NoConfirmation,
    /// A coordinator acts although its lease may have expired.
    NoLeaseCheck,
    /// A coordinator archives runs that are not stored anywhere.
    NoStoredArchive,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoFenceCheck,
        Self::NoSequenceCheck,
        Self::ActBeforeCommit,
        Self::NoFreshLease,
        Self::NoTokenCheck,
        Self::NoConfirmation,
        Self::NoLeaseCheck,
        Self::NoStoredArchive,
    ];
}
