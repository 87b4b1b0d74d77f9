//! Tells Kubernetes how many workers a cluster needs, and which of them to remove first.
//!
//! An autoscaler is a client of the coordinators. It asks them every second how many workers each pool
//! needs, and serves the answer to KEDA ([`externalscaler.ExternalScaler`]). In the annotation
//! `controller.kubernetes.io/pod-deletion-cost` of the workers' pods it keeps which of them are busy, so
//! that idle ones are removed first. Only this process needs access to the API of Kubernetes, and it
//! has no state of its own.
//!
//! [`externalscaler.ExternalScaler`]: https://keda.sh/docs/latest/concepts/external-scalers/

mod config;
mod deletion_cost;
mod demand;
mod scaler;
mod server;

pub use config::{Config, DeletionCostConfig, InvalidConfig, TlsConfig};
pub use demand::Coordinators;
pub use server::{Autoscaler, StartError};
