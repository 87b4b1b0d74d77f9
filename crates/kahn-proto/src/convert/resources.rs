//! Amounts of resources.

use std::collections::BTreeSet;

use kahn_model::{Resource, Resources};

use super::{ConvertError, ids};
use crate::storage as wire;

/// Encodes amounts of resources.
#[must_use]
pub fn to_wire(resources: &Resources) -> wire::Resources {
    let named = resources.iter().filter_map(|(resource, amount_milli)| match resource {
        Resource::Named(name) => {
            Some(wire::NamedAmount { name: name.as_str().to_owned(), amount_milli })
        }
        Resource::Cpu | Resource::Memory | Resource::Gpu | Resource::Disk | Resource::Network => {
            None
        }
    });
    wire::Resources {
        cpu_milli: resources.get(&Resource::Cpu),
        memory_bytes: resources.get(&Resource::Memory),
        gpu_milli: resources.get(&Resource::Gpu),
        disk_rate: resources.get(&Resource::Disk),
        network_rate: resources.get(&Resource::Network),
        named: named.collect(),
    }
}

/// Decodes amounts of resources.
///
/// # Errors
///
/// Returns an error if the name of a custom resource is not valid or occurs twice.
pub fn from_wire(resources: wire::Resources) -> Result<Resources, ConvertError> {
    const FIELD: &str = "resources.named";
    let mut out = Resources::none()
        .with(&Resource::Cpu, resources.cpu_milli)
        .with(&Resource::Memory, resources.memory_bytes)
        .with(&Resource::Gpu, resources.gpu_milli)
        .with(&Resource::Disk, resources.disk_rate)
        .with(&Resource::Network, resources.network_rate);
    let mut seen = BTreeSet::new();
    for wire::NamedAmount { name, amount_milli } in resources.named {
        let name = ids::name(FIELD, &name)?;
        if !seen.insert(name.clone()) {
            return Err(ConvertError::Repeated { field: FIELD, key: name.to_string() });
        }
        out.set(&Resource::Named(name), amount_milli);
    }
    Ok(out)
}
