//! Deliberate bugs in the protocol. A simulator that does not find them would find nothing.

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The store takes appends and renewals under any term.
    NoFenceCheck,
    /// The store puts each append on top of whatever is there.
    NoSequenceCheck,
    /// The coordinator acts as soon as it has decided.
    ActBeforeCommit,
    /// After a takeover, leases go on from where they stood.
    NoFreshLease,
    /// The coordinator takes any report on a task as one on the lease in force.
    NoTokenCheck,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::NoFenceCheck,
        Self::NoSequenceCheck,
        Self::ActBeforeCommit,
        Self::NoFreshLease,
        Self::NoTokenCheck,
    ];
}
