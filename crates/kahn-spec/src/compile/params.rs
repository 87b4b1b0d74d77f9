//! The values of parameters: given, or by default.

use std::collections::BTreeMap;

use kahn_model::limits;
use serde_json::{Map, Value};

use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::expr::template;
use crate::raw::{Entries, RawParam, RawParamSpec, RawParamType};
use crate::span::{Span, Spanned};
use crate::suggest;

/// A value for a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    /// A string, as on a command line. It is parsed according to the type of the parameter.
    Text(String),
    /// A typed value.
    Json(Value),
}

impl From<&str> for ParamValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for ParamValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for ParamValue {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

/// Returns the values of all declared parameters. Invalid values are reported and omitted.
pub(super) fn resolve(
    declared: Option<&Entries<RawParam>>,
    given: &BTreeMap<String, ParamValue>,
    sink: &mut Sink,
) -> Map<String, Value> {
    let declared = declared.map_or(&[][..], |entries| entries.0.as_slice());
    report_unknown(declared, given, sink);
    let span = declared.first().map_or(Span::NONE, |(name, _)| name.span);
    super::exceeds(declared.len(), limits::PARAMS_MAX, "too many parameters", span, sink);
    let mut out = Map::new();
    for (name, raw) in declared {
        if !is_variable_name(name) {
            let message = format!("`{}` cannot be the name of a parameter", name.value);
            let help = "letters, digits and `_`, not starting with a digit, since it becomes the \
                        environment variable `PARAM_<name>`";
            sink.push(Diagnostic::error(Code::InvalidName, message).at(name.span).help(help));
            continue;
        }
        match value_of(name, raw, given.get(&*name.value)) {
            Ok(value) => _ = out.insert(name.value.to_string(), value),
            Err(diagnostic) => sink.push(*diagnostic),
        }
    }
    out
}

fn report_unknown(
    declared: &[(Spanned<Box<str>>, RawParam)],
    given: &BTreeMap<String, ParamValue>,
    sink: &mut Sink,
) {
    let names = || declared.iter().map(|(name, _)| &*name.value);
    for name in given.keys() {
        if !names().any(|known| known == name) {
            let message = format!("parameter `{name}` is given, but not declared in `params`");
            let hint = suggest::hint(name, names());
            sink.push(Diagnostic::error(Code::Parameter, message).maybe_help(hint));
        }
    }
}

/// Returns whether a shell accepts `name` as the name of a variable.
pub(super) fn is_variable_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= limits::NAME_BYTES_MAX
}

type Refused = Box<Diagnostic>;

fn value_of(
    name: &Spanned<Box<str>>,
    raw: &RawParam,
    given: Option<&ParamValue>,
) -> Result<Value, Refused> {
    let short;
    let spec = match raw {
        RawParam::Spec(spec) => spec,
        RawParam::Default(value) => {
            short = RawParamSpec {
                default: Some(Spanned::new(value.clone(), name.span)),
                ..RawParamSpec::default()
            };
            &short
        }
    };
    let default = spec.default.as_ref();
    let kind = spec.type_.unwrap_or_else(|| default.map_or(RawParamType::String, |v| inferred(v)));
    let refuse = |message: String, span: Span| {
        Box::new(Diagnostic::error(Code::Parameter, message).at(span))
    };
    if let Some(default) = default
        && !has_type(default, kind)
    {
        let message = format!(
            "the default of parameter `{}` is {}, not {}",
            name.value,
            default.value,
            noun(kind)
        );
        return Err(refuse(message, default.span.or(name.span)));
    }
    let value = match (given, default) {
        (Some(given), _) => read(&name.value, given, kind).map_err(|m| refuse(m, name.span))?,
        (None, Some(default)) if spec.required != Some(true) => default.value.clone(),
        (None, _) => {
            let message = format!("parameter `{}` is required and not given", name.value);
            let help = format!("give it with `--param {}=…`", name.value);
            return Err(Box::new(refuse(message, name.span).help(help)));
        }
    };
    check_value(&name.value, &value, spec).map_err(|message| refuse(message, name.span))?;
    Ok(value)
}

fn check_value(name: &str, value: &Value, spec: &RawParamSpec) -> Result<(), String> {
    if let Some(allowed) = &spec.enum_
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return Err(format!("parameter `{name}` is {value}; allowed are {}", list.join(", ")));
    }
    let text = as_text(value);
    if text.contains('\0') {
        return Err(format!("parameter `{name}` holds a NUL character"));
    }
    if text.contains(template::OPEN) {
        return Err(format!(
            "parameter `{name}` holds `{}`, which would be read as an expression",
            template::OPEN
        ));
    }
    if text.len() > limits::ENV_VALUE_BYTES_MAX {
        let max = limits::ENV_VALUE_BYTES_MAX;
        return Err(format!("parameter `{name}` has {} bytes, at most {max}", text.len()));
    }
    Ok(())
}

/// Formats a value for the environment: strings unchanged, everything else as JSON.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn inferred(value: &Value) -> RawParamType {
    match value {
        Value::String(_) => RawParamType::String,
        Value::Bool(_) => RawParamType::Bool,
        Value::Number(number) if number.is_f64() => RawParamType::Number,
        Value::Number(_) => RawParamType::Int,
        Value::Null | Value::Array(_) | Value::Object(_) => RawParamType::Json,
    }
}

fn has_type(value: &Value, kind: RawParamType) -> bool {
    match kind {
        RawParamType::String => value.is_string(),
        RawParamType::Int => value.is_i64() || value.is_u64(),
        RawParamType::Number => value.is_number(),
        RawParamType::Bool => value.is_boolean(),
        RawParamType::Json => true,
    }
}

fn noun(kind: RawParamType) -> &'static str {
    match kind {
        RawParamType::String => "a text",
        RawParamType::Int => "a whole number",
        RawParamType::Number => "a number",
        RawParamType::Bool => "`true` or `false`",
        RawParamType::Json => "JSON",
    }
}

fn read(name: &str, given: &ParamValue, kind: RawParamType) -> Result<Value, String> {
    let wrong = |shown: &str| format!("parameter `{name}` is `{shown}`, not {}", noun(kind));
    let text = match given {
        ParamValue::Json(value) if has_type(value, kind) => return Ok(value.clone()),
        ParamValue::Json(value) => return Err(wrong(&value.to_string())),
        ParamValue::Text(text) => text,
    };
    if kind == RawParamType::String {
        return Ok(Value::from(text.as_str()));
    }
    let value: Value = serde_json::from_str(text.trim()).map_err(|_| wrong(text))?;
    if has_type(&value, kind) { Ok(value) } else { Err(wrong(text)) }
}
