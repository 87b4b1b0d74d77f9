//! What every process needs: configuration, telemetry, health, shutdown and the clock.
//!
//! Knows no domain: no DAG, no run, no lease. What is read from outside (time, environment,
//! signals, secret files) is read here, once, and handed on as plain values.

pub mod config;
pub mod human_duration;
pub mod secret;
pub mod token;

pub mod backoff;
pub mod clock;
pub mod shutdown;

pub mod health;
pub mod metrics;
pub mod telemetry;
