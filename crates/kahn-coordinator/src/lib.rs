//! The coordinator process: the driver around the core, and its services.
//!
//! Any number of coordinators may use one store. One of them is the [`leader`]; the others are
//! standbys, which follow its logs, forward requests to it, and take over when it ends (see
//! [`election`]).
//!
//! In the leader, a single task, the [`driver`], owns the core. Everything else (worker streams, requests, timers,
//! the store) sends inputs to its [`inbox`] and carries out the effects that it releases. No effect
//! is released before the changes that it depends on are durable.
//!
//! The [`service`] layer contains every operation for clients; [`grpc`] converts its messages.

mod config;
mod driver;
mod election;
mod evaluate;
mod grpc;
mod histories;
mod holds;
mod inbox;
mod leader;
mod logs;
mod replica;
mod retention;
mod role;
mod server;
mod service;
mod sessions;
mod spans;
mod stats;
mod watchers;

#[doc(hidden)]
pub mod fuzz;

pub use config::{
    Age, BlobsConfig, BlobsError, Config, EmbeddedDurability, InvalidConfig, InvalidPool, Limits,
    MetricsConfig, Placement, PoolConfig, Retain, RetentionConfig, StoreConfig,
};
pub use replica::RecoveryError;
pub use server::{
    Coordinator, Listener, LocalConnector, Probe, Services, StartError, begin_import,
};
