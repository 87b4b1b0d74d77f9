//! The gRPC services: adapters between messages and the service layer. Generated API types are not
//! used outside this module.

pub(crate) mod auth;
pub(crate) mod backups;
mod convert;
pub(crate) mod limits;
pub(crate) mod runs;
pub(crate) mod sessions;
mod shipping;
mod status;
pub(crate) mod wire;
pub(crate) mod workers;
