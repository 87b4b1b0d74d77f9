//! Requests over HTTP, as a DAG asks for them.

use std::time::Duration;

use super::Text;
use crate::Condition;

/// What a request carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// JSON, whose strings may hold expressions.
    Json(Text),
    /// Text.
    Text(Text),
}

/// Status codes from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

impl StatusRange {
    /// 200 to 299.
    pub const SUCCESS: Self = Self { from: 200, to: 299 };

    /// Whether a code is in it.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

/// Ask again until the answer is as wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Polling {
    /// What must be true of `response`.
    pub until: Condition,
    /// The wait between two requests.
    pub every: Duration,
}

/// A request, or several until the answer is as wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: Box<str>,
    /// Where to.
    pub url: Text,
    /// Headers, in the order written.
    pub headers: Vec<(Box<str>, Text)>,
    /// What it carries.
    pub body: Body,
    /// The codes that mean success.
    pub expect: Vec<StatusRange>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether it is repeated, and until when.
    pub polling: Option<Polling>,
}
