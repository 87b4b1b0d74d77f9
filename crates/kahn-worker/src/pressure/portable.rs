//! Systems without pressure stall information: nothing is measured.

/// A source of measurements that cannot exist on this system.
#[derive(Debug)]
pub(crate) struct PressureSource(std::convert::Infallible);

impl PressureSource {
    /// Returns `None`.
    pub(crate) fn open(_: Option<&std::path::Path>) -> Option<Self> {
        None
    }

    pub(crate) fn measure(&mut self, _: Option<u64>) -> kahn_worker_core::Sample {
        match self.0 {}
    }
}

impl std::fmt::Display for PressureSource {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}
