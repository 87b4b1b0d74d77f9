//! Calls of worker functions and Python functions.

use kahn_model::{Action, FunctionCall, Name, PythonCall, Text};
use serde_json::Value;

use super::super::exprs::Exprs;
use super::super::groups::{Group, Instance};
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::raw::{RawFunction, RawPython, Short};
use crate::span::{Span, Spanned};

/// Returns the name of the called function, if there is one.
pub(super) fn function_name(call: &Short<RawFunction>) -> Option<&str> {
    match call {
        Short::Name(name) => Some(name),
        Short::Full(full) => full.name.as_ref().map(|name| name.value.as_str()),
    }
}

pub(super) fn function(
    group: &Group<'_>,
    instance: &Instance,
    raw: &Spanned<Short<RawFunction>>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Action> {
    let Some(name) = function_name(&raw.value) else {
        missing(group, "function", "name: resize", raw.span, sink);
        return None;
    };
    if let Err(error) = Name::new(name) {
        sink.push(Diagnostic::error(Code::InvalidName, error.to_string()).at(raw.span));
        return None;
    }
    let given = match &raw.value {
        Short::Name(_) => None,
        Short::Full(full) => full.input.as_ref(),
    };
    let input = input(group, instance, given, exprs, sink)?;
    Some(Action::Function(Box::new(FunctionCall { name: name.into(), input })))
}

pub(super) fn python(
    group: &Group<'_>,
    instance: &Instance,
    raw: &Spanned<Short<RawPython>>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Action> {
    let (function, given, interpreter) = match &raw.value {
        Short::Name(name) => (Some(&**name), None, None),
        Short::Full(full) => (
            full.function.as_ref().map(|function| function.value.as_str()),
            full.input.as_ref(),
            full.interpreter.as_ref(),
        ),
    };
    let Some(function) = function else {
        missing(group, "python", "function: module:name", raw.span, sink);
        return None;
    };
    if !is_function(function) {
        let message = format!("`{function}` does not name a function of Python");
        let help = "write the module, a colon and the name: `package.module:function`";
        sink.push(Diagnostic::error(Code::InvalidValue, message).at(raw.span).help(help));
        return None;
    }
    let input = input(group, instance, given, exprs, sink)?;
    let interpreter = match interpreter {
        Some(text) => Some(exprs.text(group, instance, text, sink)?),
        None => None,
    };
    Some(Action::Python(Box::new(PythonCall { function: function.into(), input, interpreter })))
}

/// Returns whether `text` is `module:name`, both dotted paths of identifiers.
fn is_function(text: &str) -> bool {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let is_path = |path: &str| path.split('.').all(is_identifier);
    text.split_once(':').is_some_and(|(module, name)| is_path(module) && is_path(name))
}

fn input(
    group: &Group<'_>,
    instance: &Instance,
    given: Option<&Spanned<Value>>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Text> {
    match given {
        Some(document) => exprs.json(group, instance, document, sink),
        None => Some(Text::new("null")),
    }
}

fn missing(group: &Group<'_>, action: &str, example: &str, span: Span, sink: &mut Sink) {
    let message = format!("`{action}` of task `{}` does not say what to call", group.name);
    let help = format!("write for example `{action}: {{ {example} }}`");
    let span = span.or(group.span);
    sink.push(Diagnostic::error(Code::MissingField, message).at(span).help(help));
}
