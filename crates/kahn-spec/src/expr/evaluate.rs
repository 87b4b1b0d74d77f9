//! Evaluates guarded expressions. Everything here must run on a large stack.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::{Context, Env, Value as Cel};
use kahn_model::{Text, TextRole, Work, limits};
use serde_json::Value;

use super::ExprError;
use super::bindings::Bindings;
use super::guard::Program;
use super::json;
use super::references::{References, TaskReference};
use super::scope::Scope;
use super::template::{self, Segment};

/// Maximum number of cached parsed expressions.
const CACHE_MAX: usize = 1024;
/// Maximum length of the result of an expression or template, in bytes.
const RESULT_BYTES_MAX: usize = limits::OUTPUT_BYTES_MAX;

/// Parses and evaluates expressions, with a cache of parsed ones.
pub(crate) struct Engine {
    env: Arc<Env>,
    programs: BTreeMap<Box<str>, Arc<Program>>,
}

impl Engine {
    pub(crate) fn new() -> Self {
        Self { env: Arc::new(Env::stdlib()), programs: BTreeMap::new() }
    }

    fn program(&mut self, source: &str) -> Result<Arc<Program>, ExprError> {
        if let Some(program) = self.programs.get(source) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(Program::parse(source)?);
        if self.programs.len() >= CACHE_MAX {
            self.programs.clear();
        }
        self.programs.insert(source.into(), Arc::clone(&program));
        Ok(program)
    }

    /// Returns what an expression refers to, with matrix tasks replaced by their instances.
    pub(crate) fn references(&mut self, source: &str) -> Result<References, ExprError> {
        let (bindings, expression) = Bindings::split(source)?;
        let mut found = self.program(expression)?.references.clone();
        for (base, instances) in &bindings.instances {
            let Some(reference) = found.tasks.remove(base) else { continue };
            for instance in instances {
                let mine: &mut TaskReference = found.tasks.entry(instance.clone()).or_default();
                mine.fields.extend(reference.fields.iter().cloned());
                mine.outputs.extend(reference.outputs.iter().cloned());
            }
        }
        Ok(found)
    }

    /// Returns what all expressions of a string refer to.
    pub(crate) fn text_references(&mut self, text: &str) -> Result<References, ExprError> {
        let mut all = References::default();
        for segment in template::segments(text)? {
            if let Segment::Expression(source) = segment {
                all.add(&self.references(source)?);
            }
        }
        Ok(all)
    }

    /// Returns what all expressions of `work` refer to.
    pub(crate) fn work_references(&mut self, work: &Work) -> Result<References, ExprError> {
        let texts = work.action.texts().into_iter().map(|(_, text)| text);
        let env = work.env.iter().map(|(_, value)| value);
        let mut all = References::default();
        for text in texts.chain(env).chain(&work.working_dir).filter(|t| t.is_dynamic()) {
            all.add(&self.text_references(text.as_str())?);
        }
        Ok(all)
    }

    fn evaluate(&mut self, source: &str, scope: &Scope) -> Result<Cel, ExprError> {
        let (bindings, expression) = Bindings::split(source)?;
        let program = self.program(expression)?;
        let mut largest = 0;
        let variables = scope.variables(&bindings, &program.references, &mut largest)?;
        program.check_work(largest)?;
        let mut context = Context::with_env(Arc::clone(&self.env));
        for (name, value) in variables {
            context.add_variable_from_value(name, value);
        }
        Cel::resolve(&program.expr, &context).map_err(|error| ExprError::of(&error))
    }

    /// Evaluates a condition.
    pub(crate) fn condition(&mut self, source: &str, scope: &Scope) -> Result<bool, ExprError> {
        match self.evaluate(source, scope)? {
            Cel::Bool(value) => Ok(value),
            other => Err(ExprError::NotBoolean(other.type_of().to_string())),
        }
    }

    /// Evaluates one expression to a string.
    fn text(&mut self, source: &str, scope: &Scope) -> Result<String, ExprError> {
        let text = match self.evaluate(source, scope)? {
            Cel::String(text) => text.to_string(),
            Cel::Bool(value) => value.to_string(),
            Cel::Int(value) => value.to_string(),
            Cel::UInt(value) => value.to_string(),
            Cel::Float(value) => value.to_string(),
            value @ (Cel::List(_) | Cel::Map(_)) => {
                let json = value.json().map_err(|_| ExprError::NotText("a list or map".into()))?;
                json.to_string()
            }
            other => return Err(ExprError::NotText(other.type_of().to_string())),
        };
        if text.contains(template::OPEN) {
            return Err(ExprError::Refused(
                "the value holds `${{`, which would be read as an expression".into(),
            ));
        }
        if text.contains('\0') {
            return Err(ExprError::Refused("the value holds a NUL character".into()));
        }
        Ok(text)
    }

    /// Replaces the expressions in a string by their values.
    pub(crate) fn render(&mut self, text: &str, scope: &Scope) -> Result<String, ExprError> {
        let mut out = String::new();
        for segment in template::segments(text)? {
            match segment {
                Segment::Literal(literal) => out.push_str(literal),
                Segment::Expression(source) => out.push_str(&self.text(source, scope)?),
            }
            if out.len() > RESULT_BYTES_MAX {
                return Err(ExprError::ResultTooLarge);
            }
        }
        // Two values without `${{` may form one when joined.
        if out.contains(template::OPEN) {
            return Err(ExprError::Refused("the text holds `${{` when rendered".into()));
        }
        Ok(out)
    }

    /// Evaluates one expression.
    pub(crate) fn value(&mut self, source: &str, scope: &Scope) -> Result<Value, ExprError> {
        let value = self.evaluate(source, scope)?;
        let kind = value.type_of().to_string();
        value.json().map_err(|_| ExprError::NotText(kind))
    }

    /// Replaces the expressions in JSON by their values.
    fn render_json(&mut self, text: &str, scope: &Scope) -> Result<String, ExprError> {
        let document = serde_json::from_str(text)
            .map_err(|error| ExprError::Failed(format!("the input is not JSON: {error}")))?;
        let rendered = json::map_texts(document, &mut |text| {
            if !text.contains(template::OPEN) {
                return Ok(Value::String(text));
            }
            match template::whole(&text)? {
                Some(source) => self.value(source, scope),
                None => self.render(&text, scope).map(Value::String),
            }
        })?;
        let out = rendered.to_string();
        if out.contains(template::OPEN) {
            return Err(ExprError::Refused("the input holds `${{` when rendered".into()));
        }
        Ok(out)
    }

    /// Renders all strings of `work`.
    pub(crate) fn work(&mut self, work: &Work, scope: &Scope) -> Result<Work, ExprError> {
        let mut render = |text: &Text| -> Result<Text, ExprError> {
            if !text.is_dynamic() {
                return Ok(text.clone());
            }
            self.render(text.as_str(), scope).map(Text::new)
        };
        let working_dir = work.working_dir.as_ref().map(&mut render).transpose()?;
        let env: Result<Vec<(Box<str>, Text)>, ExprError> = work
            .env
            .iter()
            .map(|(name, value)| Ok((name.clone(), within_env(render(value)?)?)))
            .collect();
        let action = work.action.map_texts(|role, text| match role {
            _ if !text.is_dynamic() => Ok(text.clone()),
            TextRole::Plain => self.render(text.as_str(), scope).map(Text::new),
            TextRole::Json => self.render_json(text.as_str(), scope).map(Text::new),
        })?;
        if action.n_bytes() > limits::ACTION_BYTES_MAX {
            return Err(ExprError::ResultTooLarge);
        }
        Ok(Work { action, env: env?, working_dir, secrets: work.secrets.clone() })
    }
}

fn within_env(value: Text) -> Result<Text, ExprError> {
    if value.as_str().len() > limits::ENV_VALUE_BYTES_MAX {
        return Err(ExprError::ResultTooLarge);
    }
    Ok(value)
}
