//! What the scenarios have shown.

use std::fmt;
use std::time::Duration;

/// A table of scenarios.
#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

#[derive(Debug)]
struct Row {
    scenario: &'static str,
    took: Duration,
    result: String,
}

impl Report {
    pub(super) fn add(
        &mut self,
        scenario: &'static str,
        took: Duration,
        result: impl Into<String>,
    ) {
        self.0.push(Row { scenario, took, result: result.into() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| Scenario | Time | Result |\n|---|---|---|")?;
        for Row { scenario, took, result } in &self.0 {
            writeln!(f, "| {scenario} | {:.1} s | {result} |", took.as_secs_f64())?;
        }
        Ok(())
    }
}
