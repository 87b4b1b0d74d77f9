//! Uses of secrets, which are referred to by name.

use kahn_model::{SecretTarget, SecretUse};
use wire::secret_use::Target;

use crate::convert::{ConvertError, ids};
use crate::storage as wire;

pub(super) fn to_wire(found: &SecretUse) -> wire::SecretUse {
    let target = match &found.target {
        SecretTarget::Variable(name) => Target::Variable(name.to_string()),
        SecretTarget::File(name) => Target::File(name.to_string()),
        SecretTarget::Header(name) => Target::Header(name.to_string()),
    };
    wire::SecretUse {
        target: Some(target),
        prefix: found.prefix.to_string(),
        secret: found.secret.to_string(),
    }
}

pub(super) fn from_wire(found: wire::SecretUse) -> Result<SecretUse, ConvertError> {
    let missing = ConvertError::Missing { field: "work.secret.target" };
    let target = match found.target.ok_or(missing)? {
        Target::Variable(name) => SecretTarget::Variable(name.into_boxed_str()),
        Target::File(name) => SecretTarget::File(name.into_boxed_str()),
        Target::Header(name) => SecretTarget::Header(name.into_boxed_str()),
    };
    let secret = ids::name("work.secret", &found.secret)?;
    Ok(SecretUse { target, prefix: found.prefix.into_boxed_str(), secret })
}
