//! The gauge of the role of the coordinator.

use kahn_runtime::metrics::{Metrics, StaticLabels};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// What a coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleName {
    /// It serves requests and decides.
    Leader,
    /// It is ready to take over.
    Standby,
    /// It cannot follow the leader now, and thus not take over.
    CatchingUp,
}

impl RoleName {
    const ALL: [Self; 3] = [Self::Leader, Self::Standby, Self::CatchingUp];

    fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Standby => "standby",
            Self::CatchingUp => "catching_up",
        }
    }
}

/// A gauge for each role, of which one is 1.
#[derive(Clone, Debug)]
pub(super) struct RoleGauges(Family<StaticLabels<1>, Gauge>);

impl RoleGauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "1 for the role of this coordinator: leader, standby, or catching up";
        let gauges = Self(metrics.family("coordinator_role", help));
        gauges.set(RoleName::CatchingUp);
        gauges
    }

    pub(super) fn set(&self, current: RoleName) {
        for role in RoleName::ALL {
            let gauge = self.0.get_or_create_owned(&[("role", role.as_str())]);
            gauge.set(i64::from(role == current));
        }
    }
}
