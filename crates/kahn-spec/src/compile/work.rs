//! The work of a task: the action, the environment and the working directory.

mod call;
mod container;
mod http;
mod pod;
mod secret;

use std::collections::BTreeMap;

use kahn_model::{Action, ActionKind, FunctionCall, SecretUse, Shell, Text, Work, limits};
use serde_json::{Map, Value};

use super::exprs::Exprs;
use super::groups::{Group, Instance};
use super::params::{as_text, is_variable_name};
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::expr::template;
use crate::lenient::Scalar;
use crate::raw::{
    RawContainer, RawEnv, RawFile, RawFunction, RawHttp, RawPython, RawShell, RawValue, Short,
};
use crate::span::{Span, Spanned};
use secret::Place;

/// The action of a task, before its expressions are replaced.
pub(super) enum RawAction<'a> {
    Run(&'a Spanned<Scalar>),
    Exec(&'a Spanned<Vec<Spanned<Scalar>>>),
    Function(&'a Spanned<Short<RawFunction>>),
    Python(&'a Spanned<Short<RawPython>>),
    Container(&'a Spanned<RawContainer>),
    Http(&'a Spanned<RawHttp>),
    Builtin(Action),
}

impl RawAction<'_> {
    /// Returns whether the action computes, and so requests a processor by default.
    pub(super) fn computes(&self) -> bool {
        !matches!(self, Self::Http(_) | Self::Builtin(_))
    }

    /// Returns the worker label that the action requires.
    pub(super) fn label(&self) -> Option<String> {
        let Self::Function(function) = self else { return None };
        call::function_name(&function.value).map(FunctionCall::label_of)
    }
}

/// Finds the action of a task. Reports no action, several actions, and unsupported actions.
pub(super) fn action_of<'a>(group: &Group<'a>, sink: &mut Sink) -> Option<RawAction<'a>> {
    let raw = group.raw;
    let unsupported = [
        ("service", &raw.service),
        ("dag", &raw.dag),
        ("approve", &raw.approve),
        ("foreach", &raw.foreach),
    ];
    for (word, field) in unsupported {
        if let Some(field) = field {
            let message = format!("`{word}` of task `{}` is not supported yet", group.name);
            let help = "this version does `run`, `exec`, `function`, `python`, `container`, `http`, \
                        `sleep` and `noop`";
            let span = field.span.or(group.span);
            sink.push(Diagnostic::error(Code::Unsupported, message).at(span).help(help));
            return None;
        }
    }
    let mut found: Vec<(&str, Span, RawAction<'a>)> = Vec::new();
    if let Some(script) = &raw.run {
        found.push(("run", script.span, RawAction::Run(script)));
    }
    if let Some(argv) = &raw.exec {
        found.push(("exec", argv.span, RawAction::Exec(argv)));
    }
    if let Some(call) = &raw.function {
        found.push(("function", call.span, RawAction::Function(call)));
    }
    if let Some(call) = &raw.python {
        found.push(("python", call.span, RawAction::Python(call)));
    }
    if let Some(container) = &raw.container {
        found.push(("container", container.span, RawAction::Container(container)));
    }
    if let Some(request) = &raw.http {
        found.push(("http", request.span, RawAction::Http(request)));
    }
    if let Some(length) = &raw.sleep {
        let action = Action::Sleep { duration: length.value.0 };
        found.push(("sleep", length.span, RawAction::Builtin(action)));
    }
    if let Some(noop) = &raw.noop
        && noop.value.0
    {
        found.push(("noop", noop.span, RawAction::Builtin(Action::Noop)));
    }
    if found.len() > 1 {
        let words: Vec<String> = found.iter().map(|(word, ..)| format!("`{word}`")).collect();
        let message = format!("task `{}` has {} actions", group.name, found.len());
        let mut diagnostic = Diagnostic::error(Code::Conflict, message).at(group.span);
        for (word, span, _) in &found {
            diagnostic = diagnostic.label(*span, format!("`{word}`"));
        }
        let help = format!("exactly one is allowed; split the task: {}", words.join(", "));
        sink.push(diagnostic.help(help));
        return None;
    }
    let first = found.pop().map(|(.., action)| action);
    if first.is_none() {
        let message = format!("task `{}` does nothing", group.name);
        let help = "give it one of `run`, `exec`, `function`, `python`, `container`, `http`, `sleep` \
                    and `noop`";
        sink.push(Diagnostic::error(Code::MissingField, message).at(group.span).help(help));
    }
    first
}

/// State shared by the work of all tasks.
pub(super) struct Shared<'a> {
    file: &'a RawFile,
    /// `PARAM_name` for every parameter.
    params: Vec<(Box<str>, Text)>,
}

type Vars = Vec<(Box<str>, Text)>;

/// The value of an environment variable.
enum Given {
    Text(Text),
    Secret(SecretUse),
}

impl<'a> Shared<'a> {
    pub(super) fn new(file: &'a RawFile, params: &Map<String, Value>, sink: &mut Sink) -> Self {
        check_env(file.env.as_deref(), sink);
        check_env(file.defaults.as_ref().and_then(|defaults| defaults.env.as_deref()), sink);
        Self { file, params: exported("PARAM_", params) }
    }

    /// Returns the work of an instance. Returns `None` if it is invalid.
    pub(super) fn work(
        &self,
        group: &Group<'_>,
        instance: &Instance,
        action: &RawAction<'_>,
        exprs: &mut Exprs<'_>,
        sink: &mut Sink,
    ) -> Option<Work> {
        let mut secrets = Vec::new();
        let action = match action {
            RawAction::Builtin(action) => return Some(Work::new(action.clone())),
            RawAction::Run(script) => self.script(group, script, sink),
            RawAction::Exec(argv) => argv_of(group, instance, argv, exprs, sink),
            RawAction::Function(call) => call::function(group, instance, call, exprs, sink),
            RawAction::Python(call) => call::python(group, instance, call, exprs, sink),
            RawAction::Container(raw) => container::container(group, instance, raw, exprs, sink),
            RawAction::Http(raw) => http::request(group, instance, raw, &mut secrets, exprs, sink),
        };
        if let Some(action) = &action {
            let known = action.texts().into_iter().filter(|(_, text)| !text.is_dynamic());
            let n_bytes = known.map(|(_, text)| text.as_str().len()).sum();
            check_size(group, n_bytes, group.span, sink);
        }
        let kind = action.as_ref().map(Action::kind);
        let env = self.env(group, instance, kind, &mut secrets, exprs, sink);
        secret::check_count(group, &secrets, sink);
        let default =
            self.file.defaults.as_ref().and_then(|defaults| defaults.working_dir.as_ref());
        let working_dir = group.raw.working_dir.as_ref().or(default);
        let working_dir = match working_dir {
            Some(text) => Some(exprs.text(group, instance, text, sink)?),
            None => None,
        };
        Some(Work { action: action?, env: env?, working_dir, secrets })
    }

    fn script(
        &self,
        group: &Group<'_>,
        script: &Spanned<Scalar>,
        sink: &mut Sink,
    ) -> Option<Action> {
        let text = &*script.value.0;
        check_size(group, text.len(), script.span, sink);
        if text.trim().is_empty() {
            let message = format!("`run` of task `{}` is empty", group.name);
            sink.push(Diagnostic::error(Code::InvalidValue, message).at(script.span));
        }
        if text.contains('\0') {
            let message = format!("`run` of task `{}` holds a NUL character", group.name);
            sink.push(Diagnostic::error(Code::InvalidValue, message).at(script.span));
        }
        if text.contains(template::OPEN) {
            let message = format!("`run` of task `{}` holds an expression", group.name);
            let help = "a value is never spliced into shell text: set it under `env:` and use it \
                        as `\"$NAME\"`; parameters are there as `\"$PARAM_name\"`, matrix values \
                        as `\"$MATRIX_name\"`";
            let secret = "a secret is set with `env: { NAME: { secret: name } }`, and used as \
                          `\"$NAME\"`";
            let help = if text.contains("secrets.") { secret } else { help };
            sink.push(Diagnostic::error(Code::Injection, message).at(script.span).help(help));
            return None;
        }
        let default = self.file.defaults.as_ref().and_then(|defaults| defaults.shell);
        let shell = match group.raw.shell.or(default) {
            None | Some(RawShell::Sh) => Shell::Sh,
            Some(RawShell::Bash) => Shell::Bash,
        };
        Some(Action::Run { script: text.into(), shell })
    }

    /// Merges the variables of the parameters, the matrix, the file, the defaults and the task;
    /// later ones take precedence. Secrets are added to `secrets`.
    fn env(
        &self,
        group: &Group<'_>,
        instance: &Instance,
        kind: Option<ActionKind>,
        secrets: &mut Vec<SecretUse>,
        exprs: &mut Exprs<'_>,
        sink: &mut Sink,
    ) -> Option<Vars> {
        let own = group.raw.env.as_deref();
        if own.is_none() && instance.values.is_empty() && self.file.env.is_none() {
            let default = self.file.defaults.as_ref().and_then(|d| d.env.as_deref());
            if default.is_none() {
                return Some(self.params.clone());
            }
        }
        check_env(own, sink);
        let exported = self.params.clone().into_iter().chain(exported("MATRIX_", &instance.values));
        let mut all: Vec<(Box<str>, Given)> =
            exported.map(|(name, text)| (name, Given::Text(text))).collect();
        let mut positions: BTreeMap<Box<str>, usize> =
            all.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
        let defaults = self.file.defaults.as_ref().and_then(|defaults| defaults.env.as_deref());
        let mut is_good = true;
        for (name, value) in [self.file.env.as_deref(), defaults, own]
            .into_iter()
            .flatten()
            .flat_map(|entries| &entries.0)
        {
            let Some(value) = given(group, instance, (name, value), exprs, sink) else {
                is_good = false;
                continue;
            };
            match positions.get(&name.value) {
                Some(at) => all[*at].1 = value,
                None => {
                    positions.insert(name.value.clone(), all.len());
                    all.push((name.value.clone(), value));
                }
            }
        }
        let what = format!("too many environment variables of task `{}`", group.name);
        super::exceeds(all.len(), limits::ENV_MAX, &what, group.span, sink);
        let is_request = kind == Some(ActionKind::Http);
        is_good &= !is_request || secret::check_request(group, own, sink);
        let mut texts = Vec::with_capacity(all.len());
        for (name, value) in all {
            match value {
                Given::Text(text) => texts.push((name, text)),
                // Requests have no environment, so secrets of the file and the defaults are
                // ignored.
                Given::Secret(_) if is_request => {}
                Given::Secret(secret) => secrets.push(secret),
            }
        }
        is_good.then_some(texts)
    }
}

/// Compiles one variable.
fn given(
    group: &Group<'_>,
    instance: &Instance,
    (name, value): (&Spanned<Box<str>>, &Spanned<RawValue>),
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Given> {
    let text = match &value.value {
        RawValue::Text(text) => text,
        RawValue::Secret(raw) => {
            let secret = secret::secret(Place::Variable, name, raw, value.span, sink);
            return secret.map(Given::Secret);
        }
    };
    let rendered = exprs.text_at(group, instance, text, value.span, sink)?;
    // A rendered value may be much longer than the text in the file.
    if text.len() <= limits::ENV_VALUE_BYTES_MAX && !rendered.is_dynamic() {
        check_value(name, rendered.as_str().len(), name.span, sink);
    }
    Some(Given::Text(rendered))
}

fn exported(prefix: &str, values: &Map<String, Value>) -> Vars {
    let export = |(name, value): (&String, &Value)| {
        (format!("{prefix}{name}").into(), Text::new(as_text(value)))
    };
    values.iter().map(export).collect()
}

fn check_env(env: Option<&RawEnv>, sink: &mut Sink) {
    for (name, value) in env.map_or(&[][..], |env| env.0.as_slice()) {
        if !is_variable_name(name) {
            let message = format!("`{}` cannot be the name of an environment variable", name.value);
            sink.push(Diagnostic::error(Code::InvalidName, message).at(name.span));
        } else if name.starts_with("KAHN_") {
            let message = format!("`{}` is set by Kahn itself", name.value);
            let help = "names that start with `KAHN_` are reserved";
            sink.push(Diagnostic::error(Code::InvalidName, message).at(name.span).help(help));
        }
        if let RawValue::Text(text) = &value.value {
            check_value(name, text.len(), value.span, sink);
        }
    }
}

fn check_value(name: &str, n_bytes: usize, span: Span, sink: &mut Sink) {
    let what = format!("too many bytes in the environment variable `{name}`");
    super::exceeds(n_bytes, limits::ENV_VALUE_BYTES_MAX, &what, span, sink);
}

/// Reports an action that is too long. Returns whether it is.
fn check_size(group: &Group<'_>, n_bytes: usize, span: Span, sink: &mut Sink) -> bool {
    let what = format!("too many bytes in the action of task `{}`", group.name);
    super::exceeds(n_bytes, limits::ACTION_BYTES_MAX, &what, span, sink)
}

fn argv_of(
    group: &Group<'_>,
    instance: &Instance,
    argv: &Spanned<Vec<Spanned<Scalar>>>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Action> {
    if check_size(group, argv.value.iter().map(|arg| arg.len()).sum(), argv.span, sink) {
        return None;
    }
    if argv.value.first().is_none_or(|program| program.trim().is_empty()) {
        let message = format!("`exec` of task `{}` names no program", group.name);
        let help = "write for example `exec: [ls, -l]`";
        let span = argv.span.or(group.span);
        sink.push(Diagnostic::error(Code::InvalidValue, message).at(span).help(help));
        return None;
    }
    let mut n_bytes = 0;
    let mut is_good = true;
    let mut texts = Vec::with_capacity(argv.value.len());
    for arg in &argv.value {
        let Some(text) = exprs.text(group, instance, arg, sink) else {
            is_good = false;
            continue;
        };
        n_bytes += if text.is_dynamic() { 0 } else { text.as_str().len() };
        if check_size(group, n_bytes, argv.span, sink) {
            return None;
        }
        texts.push(text);
    }
    is_good.then_some(Action::Exec { argv: texts })
}
