//! Commands for the worker's driver.

use kahn_model::{Admission, Token};

use crate::event::{Inventory, Lease, Report, StopReason};

/// An action that the driver must perform.
#[derive(Clone, Debug)]
pub enum Command<P> {
    /// Sends the inventory as the first message of the stream.
    SendInventory(Inventory),
    /// Sends a heartbeat.
    SendHeartbeat {
        /// The number that the acknowledgement repeats.
        number: u64,
    },
    /// Announces that the worker is draining.
    SendDraining,
    /// Announces how much of its capacity the worker accepts from now on.
    SendAdmission(Admission),
    /// Starts the attempt of a lease on its executor.
    Start(Lease<P>),
    /// Tells the executor to stop an attempt.
    Stop {
        /// The token of the lease.
        token: Token,
        /// The reason.
        reason: StopReason,
    },
    /// Stores a final report so that it survives a restart of the worker.
    Keep(Report),
    /// Deletes a stored final report.
    Forget {
        /// The token in the report.
        token: Token,
    },
    /// Exits the worker: it has drained and all final reports are acknowledged.
    Leave,
}
