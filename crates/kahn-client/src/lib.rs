//! The Rust client of a coordinator: submits DAGs, watches and controls their runs, and lists
//! workers.
//!
//! It uses gRPC and returns types of the model instead of messages. Repeatable calls are retried
//! while the coordinator is unreachable, for up to [`Options::outage_timeout`]. [`Watch`] and
//! [`Logs`] resume after a lost connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), kahn_client::Error> {
//! use kahn_client::{Client, Submission};
//!
//! let client = Client::connect("http://127.0.0.1:7400", None).await?;
//! let submitted = client.submit(&Submission::new("tasks: {hello: {run: echo hello}}")).await?;
//! let mut watch = client.watch(submitted.run, 0);
//! while let Some(update) = watch.next().await? {
//!     for event in update.events {
//!         // One after the other, from 1, without gaps.
//!         assert_eq!(event.run, submitted.run);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod submit;

mod export;
mod logs;
mod watch;

mod types;

mod connection;
mod convert;
mod error;
mod random;
mod retry;

pub use client::Client;
pub use connection::{MESSAGE_BYTES_IN_MAX, MESSAGE_BYTES_OUT_MAX, Options};
pub use error::{Error, Reason, Refusal};
pub use export::{Export, ExportHeader, ExportPart};
pub use kahn_net::ClientTls;
pub use logs::{LogPiece, LogQuery, Logs};
pub use submit::{DOCUMENT_PIECE_BYTES, Submission, Submitted};
pub use types::{
    Blocker, Event, Explanation, Page, Pool, Pressure, RetryScope, Run, RunFilter, Task,
    TaskFilter, Usage, Waiting, Worker,
};
pub use watch::{Update, Watch};
