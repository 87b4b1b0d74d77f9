//! Label rules.

use kahn_model::{LabelRule, Selector, limits};

use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::lenient::Scalar;
use crate::raw::{OneOrMany, RawLabelOp, RawLabelRule, RawLabelSet, RawLabels};
use crate::span::{Span, Spanned};

/// Combines the rules of all layers.
pub(super) fn selector(layers: [Option<&RawLabels>; 2], sink: &mut Sink) -> Selector {
    let mut out = Selector::default();
    for labels in layers.into_iter().flatten() {
        add(&mut out.required, labels.require.as_ref(), sink);
        add(&mut out.preferred, labels.prefer.as_ref(), sink);
    }
    out
}

fn add(out: &mut Vec<LabelRule>, set: Option<&Spanned<RawLabelSet>>, sink: &mut Sink) {
    let Some(set) = set else { return };
    match &set.value {
        RawLabelSet::Map(entries) => {
            for (key, values) in &entries.0 {
                let rule = rule(RawLabelOp::In, &key.value, values, key.span);
                push(out, rule, sink);
            }
        }
        RawLabelSet::Rules(rules) => {
            for raw in rules {
                push(out, full_rule(raw), sink);
            }
        }
    }
    let max = limits::LABEL_RULES_MAX;
    super::super::exceeds(out.len(), max, "too many label rules", set.span, sink);
}

fn push(out: &mut Vec<LabelRule>, rule: Result<LabelRule, Diagnostic>, sink: &mut Sink) {
    match rule {
        Ok(rule) => out.push(rule),
        Err(diagnostic) => sink.push(diagnostic),
    }
}

fn full_rule(raw: &Spanned<RawLabelRule>) -> Result<LabelRule, Diagnostic> {
    let Some(key) = &raw.key else {
        return Err(Diagnostic::error(Code::MissingField, "a label rule has no `key`").at(raw.span));
    };
    let none = OneOrMany(Vec::new());
    let values = raw.values.as_ref().unwrap_or(&none);
    rule(raw.op.unwrap_or(RawLabelOp::In), key, values, key.span.or(raw.span))
}

fn rule(
    op: RawLabelOp,
    key: &str,
    values: &OneOrMany<Scalar>,
    span: Span,
) -> Result<LabelRule, Diagnostic> {
    let key = key.to_owned();
    let refuse = |message: String| Diagnostic::error(Code::InvalidValue, message).at(span);
    let wants_values = matches!(op, RawLabelOp::In | RawLabelOp::NotIn);
    if wants_values && values.0.is_empty() {
        return Err(refuse(format!("the rule on label `{key}` has no `values`")));
    }
    if !wants_values && !values.0.is_empty() {
        return Err(refuse(format!("the rule on label `{key}` takes no `values`")));
    }
    let values = values.0.iter().map(|value| value.0.to_string()).collect();
    Ok(match op {
        RawLabelOp::In => LabelRule::In { key, values },
        RawLabelOp::NotIn => LabelRule::NotIn { key, values },
        RawLabelOp::Exists => LabelRule::Exists { key },
        RawLabelOp::Absent => LabelRule::Absent { key },
    })
}
