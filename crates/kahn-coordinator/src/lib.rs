//! The coordinator process: the driver around the core, and the services that feed it.
//!
//! One task, the [`driver`], owns the core. Everything else (worker streams, calls, timers, the
//! store) only sends it inputs and carries out what it releases. Nothing leaves before the changes
//! that it rests on are durable.

mod config;
mod driver;
mod evaluate;
mod grpc;
mod logs;
mod recovery;
mod server;
mod sessions;
mod spans;
mod stats;
mod watchers;

#[doc(hidden)]
pub mod fuzz;

pub use config::{Config, EmbeddedDurability, InvalidConfig, Limits, Placement, StoreConfig};
pub use driver::{Handle, RequestError};
pub use recovery::RecoveryError;
pub use server::{Coordinator, Listener, LocalConnector, Services, StartError};
