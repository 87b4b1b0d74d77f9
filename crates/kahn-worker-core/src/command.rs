//! What the worker's driver must do.

use kahn_model::{Admission, Token};

use crate::event::{Inventory, Lease, Report, StopReason};

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Command<P> {
    /// Opens the stream with this.
    SendInventory(Inventory),
    /// Sends a sign of life.
    SendHeartbeat {
        /// Its number, which the acknowledgement repeats.
        number: u64,
    },
    /// Says that the worker will finish what it holds and go.
    SendDraining,
    /// Says how much of its capacity the worker accepts from now on.
    SendAdmission(Admission),
    /// Hands a lease to its executor.
    Start(Lease<P>),
    /// Tells the executor to stop an attempt.
    Stop {
        /// The token of its lease.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// Keeps a final report where a restart of the worker will find it.
    Keep(Report),
    /// Forgets a final report that was kept.
    Forget {
        /// The token in the report.
        token: Token,
    },
    /// There is nothing left to do or to tell: the worker may exit.
    Leave,
}
