//! Checks secrets, which are never treated as text.

use kahn_model::{Name, SecretTarget, SecretUse, limits};

use super::super::groups::Group;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::expr::template;
use crate::raw::{RawEnv, RawSecret, RawSecretForm, RawValue};
use crate::span::Span;

/// Where a secret is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Variable,
    Header,
}

/// Returns the use of a secret under `name`. Returns `None` if it is invalid.
pub(super) fn secret(
    place: Place,
    name: &str,
    raw: &RawSecret,
    span: Span,
    sink: &mut Sink,
) -> Option<SecretUse> {
    let mut refuse = |code, message: String, span: Span, help: &str| {
        sink.push(Diagnostic::error(code, message).at(span).help(help));
    };
    let Some(word) = &raw.secret else {
        let message = format!("the value of `{name}` names no secret");
        refuse(Code::MissingField, message, span, "write `{ secret: name-of-the-secret }`");
        return None;
    };
    let mut is_good = true;
    let secret = match Name::new(&word.value) {
        Ok(secret) => Some(secret),
        Err(error) => {
            let help = "a secret is named as in `worker.secrets` of a worker's configuration";
            refuse(Code::InvalidName, error.to_string(), word.span.or(span), help);
            None
        }
    };
    let is_file = raw.form.as_ref().is_some_and(|form| form.value == RawSecretForm::File);
    if let (Place::Header, Some(form)) = (place, &raw.form) {
        let message = format!("`as` has no meaning for the header `{name}`");
        refuse(Code::Conflict, message, form.span.or(span), "leave it out");
        is_good = false;
    }
    if let Some(prefix) = &raw.prefix {
        let at = prefix.span.or(span);
        if is_file {
            let message = format!("`prefix` and `as: file` of `{name}` exclude each other");
            refuse(Code::Conflict, message, at, "a file holds the secret and nothing else");
            is_good = false;
        }
        if prefix.contains(template::OPEN) || prefix.contains('\0') {
            let message = format!("`prefix` of `{name}` holds an expression or a NUL character");
            refuse(Code::Expression, message, at, "only plain text can go before a secret");
            is_good = false;
        }
        let what = format!("too many bytes in the `prefix` of `{name}`");
        let max = limits::SECRET_PREFIX_BYTES_MAX;
        is_good &= !super::super::exceeds(prefix.len(), max, &what, at, sink);
    }
    let target = match (place, is_file) {
        (Place::Header, _) => SecretTarget::Header(name.into()),
        (Place::Variable, true) => SecretTarget::File(name.into()),
        (Place::Variable, false) => SecretTarget::Variable(name.into()),
    };
    let prefix = raw.prefix.as_ref().map_or("", |prefix| prefix).into();
    secret.filter(|_| is_good).map(|secret| SecretUse { target, prefix, secret })
}

/// Reports an error if a task has too many secrets.
pub(super) fn check_count(group: &Group<'_>, secrets: &[SecretUse], sink: &mut Sink) {
    let what = format!("too many secrets of task `{}`", group.name);
    super::super::exceeds(secrets.len(), limits::SECRETS_MAX, &what, group.span, sink);
}

/// Returns whether the environment of a request names no secrets, which would have no effect.
/// Reports those it names.
pub(super) fn check_request(group: &Group<'_>, env: Option<&RawEnv>, sink: &mut Sink) -> bool {
    let mut is_good = true;
    for (name, value) in env.iter().flat_map(|env| &env.0) {
        if let RawValue::Secret(_) = value.value {
            let message =
                format!("`http` of task `{}` has no environment for a secret", group.name);
            let help = format!(
                "give it to a header: `http: {{ headers: {{ Authorization: {{ secret: …, prefix: \
                 \"Bearer \" }} }} }}` instead of `env: {{ {}: … }}`",
                name.value
            );
            let span = value.span.or(group.span);
            sink.push(Diagnostic::error(Code::Conflict, message).at(span).help(help));
            is_good = false;
        }
    }
    is_good
}
