//! Containers.

use kahn_model::{Container, Mount, Port, PullPolicy, Text};

use super::owned;
use crate::convert::ConvertError;
use crate::storage as wire;

pub(super) fn to_wire(container: &Container) -> wire::ContainerAction {
    let pull = match container.pull {
        PullPolicy::Missing => wire::PullPolicy::Missing,
        PullPolicy::Always => wire::PullPolicy::Always,
        PullPolicy::Never => wire::PullPolicy::Never,
    };
    let mount = |mount: &Mount| wire::Mount {
        source: owned(&mount.source),
        target: mount.target.to_string(),
        is_writable: mount.is_writable,
    };
    let port =
        |port: &Port| wire::Port { container: port.container.into(), host: port.host.into() };
    wire::ContainerAction {
        image: owned(&container.image),
        pull: pull.into(),
        command: container.command.iter().map(owned).collect(),
        args: container.args.iter().map(owned).collect(),
        user: container.user.as_deref().map(str::to_owned),
        mounts: container.mounts.iter().map(mount).collect(),
        ports: container.ports.iter().map(port).collect(),
    }
}

pub(super) fn from_wire(found: wire::ContainerAction) -> Result<Container, ConvertError> {
    let pull = match wire::PullPolicy::try_from(found.pull) {
        Ok(wire::PullPolicy::Missing) => PullPolicy::Missing,
        Ok(wire::PullPolicy::Always) => PullPolicy::Always,
        Ok(wire::PullPolicy::Never) => PullPolicy::Never,
        Ok(wire::PullPolicy::Unspecified) | Err(_) => {
            let (field, found) = ("work.container.pull", found.pull);
            return Err(ConvertError::UnknownValue { field, found });
        }
    };
    let mount = |mount: wire::Mount| Mount {
        source: Text::new(mount.source),
        target: mount.target.into_boxed_str(),
        is_writable: mount.is_writable,
    };
    Ok(Container {
        image: Text::new(found.image),
        pull,
        command: found.command.into_iter().map(Text::new).collect(),
        args: found.args.into_iter().map(Text::new).collect(),
        user: found.user.map(String::into_boxed_str),
        mounts: found.mounts.into_iter().map(mount).collect(),
        ports: found.ports.iter().map(port).collect::<Result<_, _>>()?,
    })
}

fn port(port: &wire::Port) -> Result<Port, ConvertError> {
    let number = |found: u32| {
        u16::try_from(found)
            .map_err(|_| ConvertError::out_of_range("work.container.port", found, u16::MAX))
    };
    Ok(Port { container: number(port.container)?, host: number(port.host)? })
}
