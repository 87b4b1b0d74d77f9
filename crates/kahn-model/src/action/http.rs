//! HTTP requests.

use std::time::Duration;

use super::Text;
use crate::Condition;

/// The body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    /// No body.
    #[default]
    Empty,
    /// JSON, whose strings may contain expressions.
    Json(Text),
    /// Text.
    Text(Text),
}

/// An inclusive range of status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusRange {
    /// The lowest code.
    pub from: u16,
    /// The highest code.
    pub to: u16,
}

impl StatusRange {
    /// 200 to 299.
    pub const SUCCESS: Self = Self { from: 200, to: 299 };

    /// Returns whether the range contains `status`.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

/// Repeats a request until a condition holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Polling {
    /// The condition over `response`.
    pub until: Condition,
    /// The delay between two requests.
    pub every: Duration,
}

/// A request, optionally repeated until a condition holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpRequest {
    /// The method, in upper case.
    pub method: Box<str>,
    /// The URL.
    pub url: Text,
    /// The headers, in order.
    pub headers: Vec<(Box<str>, Text)>,
    /// The body.
    pub body: Body,
    /// The status codes that mean success.
    pub expect: Vec<StatusRange>,
    /// The timeout of a single request.
    pub timeout: Duration,
    /// Whether to repeat the request, and until when.
    pub polling: Option<Polling>,
}
