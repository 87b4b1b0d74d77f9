//! The worker: its session with the coordinator, its attempts and log shipping.
//!
//! One task, the driver, owns the worker's core. Executors, the connection and the spools send it
//! events and execute its commands.

pub mod spool;

mod config;
mod driver;
mod link;
mod pressure;
mod session;
mod shipping;
mod standalone;
mod stats;
mod wire;
mod worker;

pub use config::{Config, InvalidConfig};
pub use kahn_executor_function::FunctionContext;
pub use kahn_executor_process::{LimitMode, LimitStatement};
pub use link::Coordinators;
pub use pressure::{PressureMode, PressureSettings};
pub use standalone::RunError;
pub use worker::{Offer, Probe, Services, StartError, Worker, WorkerBuilder};
