//! What every process needs: configuration, telemetry, health, shutdown and the clock.
//!
//! Contains no domain logic: no DAGs, runs or leases. External inputs (time, environment, signals,
//! secret files) are read here, once, and passed on as plain values.

pub mod config;
pub mod human_duration;
pub mod secret;
pub mod token;

pub mod backoff;
pub mod certificates;
pub mod clock;
pub mod service_manager;
pub mod shutdown;

pub mod health;
pub mod metrics;
pub mod telemetry;
