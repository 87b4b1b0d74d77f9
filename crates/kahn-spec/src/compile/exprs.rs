//! Expressions of the file: checked against the existing tasks, parameters and matrices, and
//! replaced by their values where these are known at compile time.

mod values;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kahn_model::{Condition, Text, limits};
use serde_json::{Map, Value};

use super::groups::{Group, Groups, Instance, Target};
use super::needs::Needs;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::expr::template::{self, Segment};
use crate::expr::{Bindings, Engine, ExprError, References, Scope, TaskReference};
use crate::lenient::Scalar;
use crate::span::{Span, Spanned};
use crate::suggest;

/// Maximum number of steps for finding indirect dependencies between tasks.
const STEPS_MAX: usize = 50_000_000;

/// Compiles the expressions of all tasks.
pub(super) struct Exprs<'a> {
    groups: &'a Groups<'a>,
    needs: &'a Needs,
    params: &'a Map<String, Value>,
    engine: Engine,
    source: &'a str,
    /// The values available to expressions that refer to no tasks.
    scope: Scope,
    /// Checked expressions by task.
    checked: BTreeSet<(usize, Box<str>)>,
    /// The direct and indirect dependencies of the last task that was queried.
    reach: Option<(usize, BTreeSet<usize>)>,
    n_steps: usize,
    /// Total size of all expressions with bound values, in bytes.
    n_bound: usize,
    /// Whether the current expression is evaluated when a response is available.
    sees_response: bool,
}

impl<'a> Exprs<'a> {
    pub(super) fn new(
        groups: &'a Groups<'a>,
        needs: &'a Needs,
        params: &'a Map<String, Value>,
        engine: Engine,
        source: &'a str,
    ) -> Self {
        let known = params.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let scope = Scope { params: known, ..Scope::default() };
        let (checked, reach) = (BTreeSet::new(), None);
        let (n_steps, n_bound) = (0, 0);
        let sees_response = false;
        Self {
            groups,
            needs,
            params,
            engine,
            source,
            scope,
            checked,
            reach,
            n_steps,
            n_bound,
            sees_response,
        }
    }

    /// Replaces the expressions whose values are known. Returns `None` if one is invalid.
    pub(super) fn text(
        &mut self,
        group: &Group<'_>,
        instance: &Instance,
        text: &Spanned<Scalar>,
        sink: &mut Sink,
    ) -> Option<Text> {
        self.text_at(group, instance, &text.value, text.span, sink)
    }

    /// Like [`Exprs::text`], for a string at `span`.
    pub(super) fn text_at(
        &mut self,
        group: &Group<'_>,
        instance: &Instance,
        text: &Scalar,
        span: Span,
        sink: &mut Sink,
    ) -> Option<Text> {
        if text.contains('\0') {
            let message = format!("a text of task `{}` holds a NUL character", group.name);
            sink.push(Diagnostic::error(Code::InvalidValue, message).at(span));
            return None;
        }
        if !text.contains(template::OPEN) {
            return Some(Text::new(text.0.clone()));
        }
        let segments = match template::segments(text) {
            Ok(segments) => segments,
            Err(error) => {
                sink.push(self.diagnostic(&error, "", span));
                return None;
            }
        };
        let mut out = String::new();
        let mut plain = String::new();
        let mut is_good = true;
        let mut n_plain = 0;
        for segment in segments {
            match segment {
                Segment::Literal(literal) => {
                    n_plain += literal.len();
                    plain.push_str(literal);
                }
                Segment::Expression(source) => {
                    match self.segment(group, instance, source, span, sink) {
                        Some(Rendered::Known(value)) => {
                            n_plain += value.len();
                            plain.push_str(&value);
                        }
                        Some(Rendered::Bound(bound)) => {
                            is_good &= self.flush(&mut plain, &mut out, span, sink);
                            out.push_str(&format!("{} {bound} }}}}", template::OPEN));
                        }
                        None => is_good = false,
                    }
                }
            }
            // A short text in the file may expand to a long one.
            let what = "too many bytes in a text with its expressions rendered";
            let max = limits::ACTION_BYTES_MAX;
            if super::exceeds(n_plain, max, what, span, sink) {
                return None;
            }
        }
        is_good &= self.flush(&mut plain, &mut out, span, sink);
        is_good.then(|| Text::new(out))
    }

    /// Appends literal text, which must not look like an expression.
    fn flush(&self, plain: &mut String, out: &mut String, span: Span, sink: &mut Sink) -> bool {
        let is_good = !plain.contains(template::OPEN);
        if !is_good {
            let error = ExprError::Refused("the text holds `${{` when rendered".into());
            sink.push(self.diagnostic(&error, "", span));
        }
        out.push_str(plain);
        plain.clear();
        is_good
    }

    fn segment(
        &mut self,
        group: &Group<'_>,
        instance: &Instance,
        source: &str,
        span: Span,
        sink: &mut Sink,
    ) -> Option<Rendered> {
        let references = self.check(group, source, span, sink)?;
        if !references.is_static() {
            return self.bind(instance, source, &references, span, sink).map(Rendered::Bound);
        }
        self.see(instance);
        let text = format!("{} {source} }}}}", template::OPEN);
        match self.engine.render(&text, &self.scope) {
            Ok(value) => Some(Rendered::Known(value)),
            Err(error) => {
                sink.push(self.diagnostic(&error, source, span));
                None
            }
        }
    }

    /// Returns the condition of an instance. Returns `None` if it is always true, or invalid.
    pub(super) fn condition(
        &mut self,
        group: &Group<'_>,
        instance: &Instance,
        text: &Spanned<Scalar>,
        sink: &mut Sink,
    ) -> Option<Condition> {
        let source = match template::condition(text) {
            Ok(source) => source,
            Err(error) => {
                sink.push(self.diagnostic(&error, "", text.span));
                return None;
            }
        };
        let references = self.check(group, source, text.span, sink)?;
        if !references.is_static() {
            let bound = self.bind(instance, source, &references, text.span, sink)?;
            return Some(Condition(bound.into()));
        }
        self.see(instance);
        match self.engine.condition(source, &self.scope) {
            Ok(true) => None,
            Ok(false) => Some(Condition("false".into())),
            Err(error) => {
                sink.push(self.diagnostic(&error, source, text.span));
                None
            }
        }
    }

    fn see(&mut self, instance: &Instance) {
        self.scope.matrix =
            instance.values.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    }

    /// Binds the known values to an expression.
    fn bind(
        &mut self,
        instance: &Instance,
        source: &str,
        references: &References,
        span: Span,
        sink: &mut Sink,
    ) -> Option<String> {
        if self.n_bound > limits::BOUND_BYTES_MAX {
            // Already reported.
            return None;
        }
        let pick = |all: &Map<String, Value>, names: &BTreeSet<String>, is_whole: bool| {
            let wanted = |name: &&String| is_whole || names.contains(*name);
            let entries = all.iter().filter(|(name, _)| wanted(name));
            entries.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let mut instances = BTreeMap::new();
        for name in references.tasks.keys() {
            let Some(Target::Group(position)) = self.groups.find(name) else { continue };
            let group = self.groups.get(position);
            if group.is_matrix() {
                let names = group.instances().map(|one| one.name.to_string());
                instances.insert(name.clone(), names.collect());
            }
        }
        let bindings = Bindings {
            params: pick(self.params, &references.params, references.uses_all_params),
            matrix: pick(&instance.values, &references.matrix, references.uses_all_matrix),
            instances,
        };
        let bound = bindings.bind(source);
        self.n_bound = self.n_bound.saturating_add(bound.len());
        let place = self.find(source, span);
        let one = "too many bytes in an expression with the values bound to it";
        let all = "too many bytes in all expressions with the values bound to them";
        let is_too_much =
            super::exceeds(bound.len(), limits::BOUND_EXPRESSION_BYTES_MAX, one, place, sink)
                || super::exceeds(self.n_bound, limits::BOUND_BYTES_MAX, all, place, sink);
        (!is_too_much).then_some(bound)
    }

    /// Parses an expression and checks, once per task, that everything it refers to exists.
    fn check(
        &mut self,
        group: &Group<'_>,
        source: &str,
        span: Span,
        sink: &mut Sink,
    ) -> Option<References> {
        if Bindings::is_forged(source) {
            let error = ExprError::Refused("an expression may not start with `//kahn`".into());
            sink.push(self.diagnostic(&error, source, span));
            return None;
        }
        let references = match self.engine.references(source) {
            Ok(references) => references,
            Err(error) => {
                sink.push(self.diagnostic(&error, source, span));
                return None;
            }
        };
        if !self.checked.insert((group.position, source.into())) {
            return Some(references);
        }
        let place = self.find(source, span);
        let mut found = Vec::new();
        found.extend(self.check_response(&references));
        found.extend(references.params.iter().filter_map(|name| self.check_param(name)));
        found.extend(references.matrix.iter().filter_map(|name| check_matrix(group, name)));
        for (name, reference) in &references.tasks {
            found.extend(self.check_task(group, name, reference));
        }
        let is_good = found.is_empty();
        found.into_iter().for_each(|diagnostic| sink.push(diagnostic.at(place)));
        is_good.then_some(references)
    }

    fn check_response(&self, references: &References) -> Option<Diagnostic> {
        let looks_elsewhere = !references.tasks.is_empty() || references.uses_run;
        let message = match (self.sees_response, references.uses_response) {
            (false, true) => "`response` is only available in `until`",
            (true, _) if looks_elsewhere => {
                "`until` may only use `response`, `params` and `matrix`"
            }
            _ => return None,
        };
        Some(Diagnostic::error(Code::Expression, message))
    }

    fn check_param(&self, name: &str) -> Option<Diagnostic> {
        if self.params.contains_key(name) {
            return None;
        }
        let hint = suggest::hint(name, self.params.keys().map(String::as_str));
        let message = format!("parameter `{name}` is not declared in `params`");
        Some(Diagnostic::error(Code::Parameter, message).maybe_help(hint))
    }

    fn check_task(
        &mut self,
        group: &Group<'_>,
        name: &str,
        reference: &TaskReference,
    ) -> Option<Diagnostic> {
        let Some(target) = self.groups.find(name) else {
            let message = format!("the expression uses task `{name}`, which does not exist");
            let diagnostic = Diagnostic::error(Code::UnknownTask, message);
            return Some(diagnostic.maybe_help(self.groups.hint(name)));
        };
        let other = self.groups.get(target.group());
        let is_list = other.is_matrix() && matches!(target, Target::Group(_));
        if is_list && !reference.is_indexed && !reference.fields.is_empty() {
            let message = format!("`tasks.{name}` is a list, since the task has a matrix");
            let help = format!(
                "use for example `tasks.{name}.all(t, t.status == \"succeeded\")`, or one \
                 instance by its name"
            );
            return Some(Diagnostic::error(Code::Expression, message).help(help));
        }
        if !is_list && reference.is_indexed {
            let message = format!("`tasks.{name}` is not a list, since the task has no matrix");
            return Some(Diagnostic::error(Code::Expression, message));
        }
        if let Some(declared) = &other.raw.outputs {
            let known = || declared.iter().map(|output| output.value.as_str());
            if let Some(output) = reference.outputs.iter().find(|o| !known().any(|k| k == *o)) {
                let message = format!("task `{}` declares no output `{output}`", other.name);
                let hint = suggest::hint(output, known());
                return Some(Diagnostic::error(Code::UnknownTask, message).maybe_help(hint));
            }
        }
        if self.depends(group.position, target.group()) {
            return None;
        }
        let message =
            format!("task `{}` uses task `{name}`, but does not depend on it", group.name);
        let help = format!("add `{name}` to the `needs` of `{}`", group.name);
        Some(Diagnostic::error(Code::Expression, message).help(help))
    }

    /// Returns whether a task depends on another, directly or indirectly.
    fn depends(&mut self, dependent: usize, dependency: usize) -> bool {
        if self.needs[dependent].iter().any(|need| need.target.group() == dependency) {
            return true;
        }
        if !matches!(&self.reach, Some((of, _)) if *of == dependent) {
            let reach = self.reached_from(dependent);
            self.reach = Some((dependent, reach));
        }
        self.reach.as_ref().is_some_and(|(_, reach)| reach.contains(&dependency))
    }

    fn reached_from(&mut self, start: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for need in &self.needs[at] {
                self.n_steps += 1;
                if self.n_steps < STEPS_MAX && seen.insert(need.target.group()) {
                    queue.push_back(need.target.group());
                }
            }
        }
        seen
    }

    fn diagnostic(&self, error: &ExprError, source: &str, span: Span) -> Diagnostic {
        let place = self.find(source, span);
        let place = match (error, place.range()) {
            (ExprError::Syntax { at, .. }, Some(range)) if place != span => {
                let start = range.start + at;
                let rest = self.source.get(start..range.end).unwrap_or("");
                let width = rest.chars().next().map_or(0, char::len_utf8);
                if width == 0 { place } else { Span::new(start, start + width) }
            }
            _ => place,
        };
        let message = match error {
            ExprError::Syntax { message, .. } => {
                format!("the expression cannot be read: {message}")
            }
            other => other.to_string(),
        };
        Diagnostic::error(Code::Expression, message).at(place).maybe_help(error.hint())
    }

    /// Returns the span of the expression within `span`, if it occurs there verbatim.
    fn find(&self, expression: &str, span: Span) -> Span {
        let Some(range) = span.range() else { return span };
        let text = self.source.get(range.clone()).unwrap_or("");
        match text.find(expression) {
            Some(at) if !expression.is_empty() => {
                Span::new(range.start + at, range.start + at + expression.len())
            }
            _ => span,
        }
    }
}

/// The result of rendering an expression.
enum Rendered {
    /// Its value.
    Known(String),
    /// The expression with known values bound to it.
    Bound(String),
}

fn check_matrix(group: &Group<'_>, name: &str) -> Option<Diagnostic> {
    let keys = group.matrix_keys();
    if keys.contains(name) {
        return None;
    }
    let message = if group.is_matrix() {
        format!("the matrix of task `{}` has no `{name}`", group.name)
    } else {
        format!("the expression uses `matrix.{name}`, but task `{}` has no matrix", group.name)
    };
    let hint = suggest::hint(name, keys.iter().copied());
    Some(Diagnostic::error(Code::Expression, message).maybe_help(hint))
}
