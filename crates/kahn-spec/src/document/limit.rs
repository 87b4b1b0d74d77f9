//! The limits of the YAML parser, and its errors in words for users.

use kahn_model::limits;
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::AliasLimits;

use super::tree;
use crate::diagnostic::{Code, Diagnostic};
use crate::span::Span;

/// Maximum nesting depth. The fields of a DAG file need less than ten levels.
const DEPTH_MAX: usize = 64;
/// Maximum number of anchors.
const ANCHORS_MAX: usize = 10_000;
/// Maximum number of values with an anchor, including the values in them.
const ANCHORED_MAX: usize = 100_000;
/// Maximum number of aliases within what another alias stands for.
const ALIAS_DEPTH_MAX: usize = 16;
/// Maximum number of bytes by which aliases lengthen the text of a file.
const ALIAS_BYTES_MAX: usize = 64 << 20;

/// The limits that grow with the file: aliases may save some text, but not turn a small file into a
/// large DAG.
struct Allowance {
    aliases: usize,
    merge_keys: usize,
    /// Maximum number of values expanded from all aliases together.
    expanded: usize,
}

impl Allowance {
    fn of(n_bytes: usize) -> Self {
        Self {
            aliases: 10_000 + n_bytes / 16,
            merge_keys: 1_000 + n_bytes / 16,
            expanded: 20_000 + n_bytes / 4,
        }
    }
}

/// Returns the settings of the parser for a file of this size.
pub(super) fn options(n_bytes: usize) -> serde_saphyr::Options {
    let allowance = Allowance::of(n_bytes);
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
        max_nodes: limits::VALUES_MAX,
        max_events: 3 * limits::VALUES_MAX,
        max_total_scalar_bytes: n_bytes + ALIAS_BYTES_MAX,
        max_aliases: allowance.aliases,
        max_anchors: ANCHORS_MAX,
        max_recorded_anchor_events: ANCHORED_MAX,
        max_merge_keys: allowance.merge_keys,
        // One anchor for many tasks is what anchors are for.
        enforce_alias_anchor_ratio: false,
    };
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = allowance.expanded;
    aliases.max_replay_stack_depth = ALIAS_DEPTH_MAX;
    serde_saphyr::options! {
        budget: budget,
        alias_limits: aliases,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Returns the diagnostic of an error of the parser.
pub(super) fn diagnostic(source: &str, error: &Error) -> Diagnostic {
    let diagnostic = exceeded(error, source.len())
        .unwrap_or_else(|| syntax(&error.without_snippet().to_string()));
    match error.location() {
        Some(location) => diagnostic.at(widened(source, &location)),
        None => diagnostic,
    }
}

fn syntax(rendered: &str) -> Diagnostic {
    let first_line = rendered.lines().next().unwrap_or("the file cannot be read");
    let message = first_line.split(" at line ").next().unwrap_or(first_line);
    // Remove advice meant for users of the library.
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message);
    let message = message.split("; use ").next().unwrap_or(message);
    let message = message.trim_end_matches(" (defined");
    let is_duplicate = message.to_lowercase().contains("duplicate");
    let code = if is_duplicate { Code::DuplicateKey } else { Code::Syntax };
    Diagnostic::error(code, message.trim_start_matches("error: "))
}

/// Returns the diagnostic if `error` is about a limit.
fn exceeded(error: &Error, n_bytes: usize) -> Option<Diagnostic> {
    let allowance = Allowance::of(n_bytes);
    match error.without_snippet() {
        Error::AliasError { error, .. } => exceeded(error, n_bytes),
        Error::AliasReplayLimitExceeded { .. } => Some(aliases(format!(
            "the aliases (`*name`) stand for more than {} values, the limit for a file of \
             {n_bytes} bytes",
            allowance.expanded
        ))),
        Error::AliasReplayStackDepthExceeded { .. } => Some(aliases(format!(
            "aliases (`*name`) within aliases are nested more than {ALIAS_DEPTH_MAX} levels deep, \
             the limit"
        ))),
        Error::Budget { breach, .. } => Some(breached(breach, &allowance, n_bytes)),
        other if other.to_string().contains("recursion limit exceeded") => Some(too_deep()),
        _ => None,
    }
}

fn breached(breach: &BudgetBreach, allowance: &Allowance, n_bytes: usize) -> Diagnostic {
    match breach {
        BudgetBreach::Depth { .. } => too_deep(),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            let message = format!(
                "the file has more than {} keys and values, with those that aliases stand for; \
                 that is the limit for YAML",
                limits::VALUES_MAX
            );
            let help = "split the DAG, or write the file as JSON, which has no such limit";
            Diagnostic::error(Code::Limit, message).help(help)
        }
        BudgetBreach::Aliases { .. } => aliases(format!(
            "the file has more than {} aliases (`*name`), the limit for {n_bytes} bytes",
            allowance.aliases
        )),
        BudgetBreach::MergeKeys { .. } => aliases(format!(
            "the file has more than {} merge keys (`<<`), the limit for {n_bytes} bytes",
            allowance.merge_keys
        )),
        BudgetBreach::Anchors { .. } => {
            aliases(format!("the file has more than {ANCHORS_MAX} anchors (`&name`), the limit"))
        }
        BudgetBreach::RecordedAnchorEvents { .. } | BudgetBreach::RecordedAnchorBytes { .. } => {
            aliases(format!(
                "the values with an anchor (`&name`) hold more than {ANCHORED_MAX} values or \
                 {ALIAS_BYTES_MAX} bytes, the limit"
            ))
        }
        BudgetBreach::ScalarBytes { .. } => aliases(format!(
            "the aliases (`*name`) stand for more than {ALIAS_BYTES_MAX} bytes of text, the limit"
        )),
        _ => Diagnostic::error(Code::Limit, "the file is too complex for the YAML parser")
            .help("write the file as JSON"),
    }
}

fn too_deep() -> Diagnostic {
    let message = format!("values are nested more than {DEPTH_MAX} levels deep, the limit");
    Diagnostic::error(Code::Limit, message).help("a DAG file needs less than ten levels")
}

fn aliases(message: String) -> Diagnostic {
    let help = "settings of all tasks belong under `defaults`, and similar tasks into one task \
                with a `matrix`; a generator can write values in full instead of aliases";
    Diagnostic::error(Code::Limit, message).help(help)
}

/// Returns the span of `location`, extended to at least one character.
fn widened(source: &str, location: &serde_saphyr::Location) -> Span {
    let span = tree::span_of(location);
    match span.range() {
        Some(range) if range.is_empty() => {
            let rest = source.get(range.start..).unwrap_or("");
            let width = rest.chars().next().map_or(0, char::len_utf8);
            Span::new(range.start, range.start + width)
        }
        _ => span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_named_with_its_size_and_a_way_out() {
        let allowance = Allowance::of(1_000);
        for (breach, text) in [
            (BudgetBreach::Nodes { nodes: 9 }, "more than 32000000 keys and values"),
            (BudgetBreach::Events { events: 9 }, "more than 32000000 keys and values"),
            (BudgetBreach::Depth { depth: 65 }, "more than 64 levels deep"),
            (BudgetBreach::Aliases { aliases: 9 }, "more than 10062 aliases"),
            (BudgetBreach::Anchors { anchors: 9 }, "more than 10000 anchors"),
            (BudgetBreach::MergeKeys { merge_keys: 9 }, "more than 1062 merge keys"),
            (BudgetBreach::ScalarBytes { total_scalar_bytes: 9 }, "more than 67108864 bytes"),
            (BudgetBreach::SequenceUnbalanced, "too complex"),
        ] {
            let found = breached(&breach, &allowance, 1_000);
            assert_eq!(found.code, Code::Limit);
            assert!(found.message.contains(text), "{}", found.message);
            assert!(found.help.is_some() && !found.message.contains("budget"), "{found:?}");
        }
    }
}
