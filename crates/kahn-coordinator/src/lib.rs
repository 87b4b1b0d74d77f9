//! The coordinator process: the driver around the core, and its services.
//!
//! A single task, the [`driver`], owns the core. Everything else (worker streams, requests, timers,
//! the store) sends inputs to its [`inbox`] and carries out the effects that it releases. No effect
//! is released before the changes that it depends on are durable.
//!
//! The [`service`] layer contains every operation for clients; [`grpc`] converts its messages.

mod config;
mod driver;
mod evaluate;
mod grpc;
mod inbox;
mod logs;
mod recovery;
mod server;
mod service;
mod sessions;
mod spans;
mod stats;
mod watchers;

#[doc(hidden)]
pub mod fuzz;

pub use config::{
    Config, EmbeddedDurability, InvalidConfig, Limits, MetricsConfig, Placement, StoreConfig,
};
pub use inbox::{Handle, RequestError};
pub use recovery::RecoveryError;
pub use server::{Coordinator, Listener, LocalConnector, Services, StartError};
