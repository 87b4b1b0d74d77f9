//! References to secrets by name. Only workers know the secrets themselves.

use std::collections::BTreeSet;

use crate::{Name, Namespace};

/// Where a task receives a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretTarget {
    /// In the environment variable of this name.
    Variable(Box<str>),
    /// In a file, whose path is the value of the environment variable of this name.
    File(Box<str>),
    /// In the header of this name of an HTTP request.
    Header(Box<str>),
}

impl SecretTarget {
    /// Returns the name of the variable or header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Variable(name) | Self::File(name) | Self::Header(name) => name,
        }
    }
}

/// The use of a secret by a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretUse {
    /// Where the task receives it.
    pub target: SecretTarget,
    /// Text put in front of the secret, such as `Bearer `. Not itself secret.
    pub prefix: Box<str>,
    /// The name under which workers know it.
    pub secret: Name,
}

impl SecretUse {
    /// Returns the label that a worker has for each of its secrets, and that a use requires.
    #[must_use]
    pub fn label_of(secret: &str) -> String {
        format!("secret/{secret}")
    }

    /// Returns the value of that label: the only namespaces that may use the secret, separated by
    /// commas, or nothing if all may.
    #[must_use]
    pub fn label_value(namespaces: Option<&BTreeSet<Namespace>>) -> String {
        let names = namespaces.into_iter().flatten().map(Namespace::as_str);
        names.collect::<Vec<_>>().join(",")
    }

    /// Returns whether a worker whose label for the secret has this value gives the secret to tasks
    /// of `namespace`.
    #[must_use]
    pub fn is_for(label_value: &str, namespace: &Namespace) -> bool {
        label_value.is_empty() || label_value.split(',').any(|name| name == namespace.as_str())
    }

    /// Returns the secret to which a label belongs, if it belongs to one.
    #[must_use]
    pub fn of_label(label: &str) -> Option<&str> {
        label.strip_prefix("secret/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_a_secret_names_the_namespaces_that_may_use_it() {
        let [dev, prod, pro] = ["dev", "prod", "pro"].map(|name| name.parse().unwrap());
        let all = SecretUse::label_value(None);
        assert!(SecretUse::is_for(&all, &dev) && SecretUse::is_for(&all, &prod));
        for allowed in [vec![prod.clone()], vec![dev.clone(), prod.clone()]] {
            let allowed = allowed.into_iter().collect::<BTreeSet<Namespace>>();
            let some = SecretUse::label_value(Some(&allowed));
            for namespace in [&dev, &prod, &pro] {
                assert_eq!(SecretUse::is_for(&some, namespace), allowed.contains(namespace));
            }
        }
    }

    #[test]
    fn a_secret_is_known_by_its_label() {
        assert_eq!(SecretUse::of_label(&SecretUse::label_of("token")), Some("token"));
        assert_eq!(SecretUse::of_label("function/token"), None);
    }
}
