//! The worker: its session with the coordinator, its executors and its log shipping.
//!
//! One task, the driver, owns the worker's core; executors, the connection and the spools feed it
//! and carry out what it says.

pub mod executor;
pub mod logs;
pub mod platform;
pub mod secrets;
pub mod spool;

mod config;
mod driver;
mod pressure;
mod session;
mod shipping;
mod standalone;
mod wire;
mod worker;

pub use config::{Config, InvalidConfig};
pub use executor::FunctionContext;
pub use pressure::{PressureMode, PressureSettings};
pub use standalone::RunError;
pub use worker::{Services, StartError, Worker, WorkerBuilder};
