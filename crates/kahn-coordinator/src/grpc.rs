//! The gRPC services. Generated types stop here.

pub(crate) mod auth;
mod refuse;
pub(crate) mod runs;
pub(crate) mod sessions;
mod shipping;
mod view;
pub(crate) mod wire;
pub(crate) mod workers;
