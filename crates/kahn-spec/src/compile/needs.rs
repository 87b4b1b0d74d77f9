//! Resolves dependencies from names to edges.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{DagBuilder, DependencyKind, TaskIx, When, limits};

use super::groups::{Groups, Target};
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::raw::{RawNeed, RawNeedKind, RawNeedSpec, RawWhen};
use crate::span::{Span, Spanned};

/// A resolved entry of `needs`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) target: Target,
    pub(super) span: Span,
    when: When,
    kind: DependencyKind,
    timeout: Option<Duration>,
}

/// The dependencies of all tasks of the file, by position.
pub(super) type Needs = Vec<Vec<Need>>;

/// Resolves every entry, and reports entries that refer to nothing.
pub(super) fn resolve(groups: &Groups<'_>, sink: &mut Sink) -> Needs {
    let mut n_edges: usize = 0;
    let mut out = Vec::with_capacity(groups.all().len());
    for group in groups.all() {
        let entries = group.raw.needs.as_ref().map_or(&[][..], |needs| needs.0.as_slice());
        let mut mine: Vec<Need> = Vec::with_capacity(entries.len());
        let mut seen = BTreeMap::new();
        let mut width: usize = 0;
        for entry in entries {
            let Some(need) = resolve_one(groups, group.name, entry, sink) else { continue };
            let is_alone = entries.len() == 1;
            if !is_alone && let Some(first) = repeated(&mut seen, &need) {
                let name = groups.get(need.target.group()).name;
                let message = format!("task `{}` names its dependency `{name}` twice", group.name);
                let diagnostic = Diagnostic::error(Code::DuplicateKey, message).at(need.span);
                sink.push(diagnostic.label(first, "first here"));
                continue;
            }
            width = width.saturating_add(match need.target {
                Target::Group(position) => groups.get(position).n_instances(),
                Target::Instance(..) => 1,
            });
            mine.push(need);
        }
        let max = limits::DEPENDENCIES_PER_TASK_MAX;
        let what = format!("too many dependencies of task `{}`", group.name);
        super::exceeds(width, max, &what, group.span, sink);
        n_edges = n_edges.saturating_add(width.saturating_mul(group.n_instances()));
        out.push(mine);
    }
    let max = limits::DEPENDENCIES_MAX;
    super::exceeds(n_edges, max, "too many dependencies", Span::NONE, sink);
    out
}

/// Returns the span of an earlier entry that names the same task, or an overlapping part of it.
fn repeated(seen: &mut BTreeMap<Target, Span>, need: &Need) -> Option<Span> {
    let group = need.target.group();
    let clash = match need.target {
        Target::Group(_) => seen
            .get(&Target::Group(group))
            .or_else(|| {
                let all = Target::Instance(group, 0)..=Target::Instance(group, usize::MAX);
                seen.range(all).next().map(|(_, span)| span)
            })
            .copied(),
        Target::Instance(..) => {
            seen.get(&Target::Group(group)).or_else(|| seen.get(&need.target)).copied()
        }
    };
    seen.insert(need.target, need.span);
    clash
}

fn resolve_one(
    groups: &Groups<'_>,
    dependent: &str,
    entry: &Spanned<RawNeed>,
    sink: &mut Sink,
) -> Option<Need> {
    let plain = RawNeedSpec::default();
    let (name, span, spec) = match &entry.value {
        RawNeed::Name(name) => (&**name, entry.span, &plain),
        RawNeed::Spec(spec) => match &spec.task {
            Some(task) => (task.value.as_str(), task.span, &**spec),
            None => {
                let message = format!("an entry of `needs` of task `{dependent}` has no `task`");
                sink.push(Diagnostic::error(Code::MissingField, message).at(entry.span));
                return None;
            }
        },
    };
    let Some(target) = groups.find(name) else {
        let message = format!("task `{dependent}` needs `{name}`, which does not exist");
        let diagnostic = Diagnostic::error(Code::UnknownTask, message).at(span);
        sink.push(diagnostic.maybe_help(groups.hint(name)));
        return None;
    };
    let kind = match spec.kind {
        None | Some(RawNeedKind::Required) => DependencyKind::Required,
        Some(RawNeedKind::Optional) => DependencyKind::Optional,
        Some(RawNeedKind::Soft) => DependencyKind::Soft,
    };
    let when = when_of(spec, kind, sink)?;
    Some(Need { target, span, when, kind, timeout: spec.timeout.map(|length| length.0) })
}

fn when_of(spec: &RawNeedSpec, kind: DependencyKind, sink: &mut Sink) -> Option<When> {
    let Some(raw) = &spec.when else { return Some(When::Succeeded) };
    let when = match raw.value {
        RawWhen::Succeeded => When::Succeeded,
        RawWhen::Completed => When::Completed,
        RawWhen::Failed => When::Failed,
        RawWhen::Started => When::Started,
        RawWhen::Ready => {
            let message = "`when: ready` is not supported yet";
            let help = "services do not exist yet; use `started` or `succeeded`";
            sink.push(Diagnostic::error(Code::Unsupported, message).at(raw.span).help(help));
            return None;
        }
    };
    if kind == DependencyKind::Soft && matches!(when, When::Failed | When::Started) {
        let message = "`kind: soft` only affects the order and waits until the task has ended";
        sink.push(Diagnostic::error(Code::Conflict, message).at(raw.span).help("leave out `when`"));
        return None;
    }
    Some(when)
}

/// Adds the edges between all instances.
pub(super) fn connect(groups: &Groups<'_>, needs: &Needs, builder: &mut DagBuilder) {
    for (group, mine) in groups.all().iter().zip(needs) {
        for dependent in group.first..group.first + group.n_instances() {
            for need in mine {
                let other = groups.get(need.target.group());
                let range = match need.target {
                    Target::Group(_) => other.first..other.first + other.n_instances(),
                    Target::Instance(_, within) => other.first + within..other.first + within + 1,
                };
                for dependency in range {
                    let (from, to) =
                        (TaskIx::from_index(dependent), TaskIx::from_index(dependency));
                    builder.depends(from, to, need.when, need.kind, need.timeout);
                }
            }
        }
    }
}
