//! Expressions in JSON values, and the condition of a repeated request.

use kahn_model::{Condition, Text};
use serde_json::Value;

use super::super::groups::{Group, Instance};
use super::Exprs;
use crate::diagnostic::Sink;
use crate::expr::{ExprError, json, template};
use crate::lenient::Scalar;
use crate::span::{Span, Spanned};

/// An error that has already been reported.
struct Reported;

impl Exprs<'_> {
    /// Replaces the expressions in JSON whose values are known. Returns `None` if one is invalid.
    pub(in crate::compile) fn json(
        &mut self,
        group: &Group<'_>,
        instance: &Instance,
        document: &Spanned<Value>,
        sink: &mut Sink,
    ) -> Option<Text> {
        let span = document.span;
        let rendered = json::map_texts(document.value.clone(), &mut |text| {
            self.json_text(group, instance, text, span, sink).ok_or(Reported)
        });
        rendered.ok().map(|document| Text::new(document.to_string()))
    }

    fn json_text(
        &mut self,
        group: &Group<'_>,
        instance: &Instance,
        text: String,
        span: Span,
        sink: &mut Sink,
    ) -> Option<Value> {
        if !text.contains(template::OPEN) {
            return Some(Value::String(text));
        }
        let Ok(Some(source)) = template::whole(&text) else {
            let text = Spanned::new(Scalar(text.into()), span);
            let rendered = self.text(group, instance, &text, sink)?;
            return Some(Value::String(rendered.as_str().to_owned()));
        };
        let references = self.check(group, source, span, sink)?;
        if !references.is_static() {
            let bound = self.bind(instance, source, &references, span, sink)?;
            return Some(Value::String(format!("{} {bound} }}}}", template::OPEN)));
        }
        self.see(instance);
        let value = self.engine.value(source, &self.scope).and_then(|value| {
            if value.to_string().contains(template::OPEN) {
                return Err(ExprError::Refused("the value holds `${{`".into()));
            }
            Ok(value)
        });
        value.map_err(|error| sink.push(self.diagnostic(&error, source, span))).ok()
    }

    /// Compiles the condition over the response to a request.
    pub(in crate::compile) fn until(
        &mut self,
        group: &Group<'_>,
        instance: &Instance,
        text: &Spanned<Scalar>,
        sink: &mut Sink,
    ) -> Option<Condition> {
        self.sees_response = true;
        let condition = self.condition(group, instance, text, sink);
        self.sees_response = false;
        condition
    }
}
