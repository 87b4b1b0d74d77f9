//! Labels of workers, and the label rules of tasks.

use std::collections::BTreeMap;

/// The labels of a worker: `zone: eu-1`, `disk: ssd`.
pub type Labels = BTreeMap<String, String>;

/// The label whose value is the name of the pool that a worker belongs to.
pub const POOL_LABEL: &str = "pool";

/// A condition on the labels of a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelRule {
    /// The label has one of these values.
    In {
        /// The label.
        key: String,
        /// The accepted values.
        values: Vec<String>,
    },
    /// The label is absent or has none of these values.
    NotIn {
        /// The label.
        key: String,
        /// The rejected values.
        values: Vec<String>,
    },
    /// The label is present, with any value.
    Exists {
        /// The label.
        key: String,
    },
    /// The label is absent.
    Absent {
        /// The label.
        key: String,
    },
}

impl LabelRule {
    /// Returns whether a worker with these labels satisfies the rule.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In { key, values } => labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn { key, values } => !labels.get(key).is_some_and(|v| values.contains(v)),
            Self::Exists { key } => labels.contains_key(key),
            Self::Absent { key } => !labels.contains_key(key),
        }
    }
}

impl std::fmt::Display for LabelRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::In { key, values } => write!(f, "{key} in [{}]", values.join(", ")),
            Self::NotIn { key, values } => write!(f, "{key} not in [{}]", values.join(", ")),
            Self::Exists { key } => write!(f, "{key} exists"),
            Self::Absent { key } => write!(f, "{key} absent"),
        }
    }
}

/// The required and preferred workers of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Rules that must all match.
    pub required: Vec<LabelRule>,
    /// Rules that are preferred: the more match, the better.
    pub preferred: Vec<LabelRule>,
}

impl Selector {
    /// Returns whether the task may run on a worker with these labels.
    #[must_use]
    pub fn allows(&self, labels: &Labels) -> bool {
        self.required.iter().all(|rule| rule.matches(labels))
    }

    /// Returns how many preferred rules a worker with these labels satisfies.
    #[must_use]
    pub fn preference(&self, labels: &Labels) -> usize {
        self.preferred.iter().filter(|rule| rule.matches(labels)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_says_yes_and_no() {
        let labels = Labels::from([("zone".to_owned(), "eu".to_owned())]);
        let key = || "zone".to_owned();
        let other = || "gpu".to_owned();
        let eu = || vec!["eu".to_owned()];
        for (rule, expected) in [
            (LabelRule::In { key: key(), values: eu() }, true),
            (LabelRule::In { key: other(), values: eu() }, false),
            (LabelRule::NotIn { key: key(), values: eu() }, false),
            (LabelRule::NotIn { key: other(), values: eu() }, true),
            (LabelRule::Exists { key: key() }, true),
            (LabelRule::Exists { key: other() }, false),
            (LabelRule::Absent { key: other() }, true),
            (LabelRule::Absent { key: key() }, false),
        ] {
            assert_eq!(rule.matches(&labels), expected, "{rule}");
        }
    }
}
