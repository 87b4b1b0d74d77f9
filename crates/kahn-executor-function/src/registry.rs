//! The registry of a worker's functions.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use kahn_model::{Cause, CauseKind, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;

use super::context::FunctionContext;
use super::exception;
use super::mute::{Muted, muted};
use super::pool::BlockingPool;

/// A call in progress, which resolves to JSON.
pub(super) type Call = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send>>;
type Async = dyn Fn(FunctionContext, Value) -> Call + Send + Sync;
type Blocking = dyn Fn(FunctionContext, Value) -> Result<String, Failure> + Send + Sync;

/// A type-erased function.
#[derive(Clone)]
pub(super) enum Function {
    Async(Arc<Async>),
    Blocking(Arc<Blocking>),
}

impl Function {
    pub(super) fn is_blocking(&self) -> bool {
        matches!(self, Self::Blocking(_))
    }

    /// Calls the function. A panic becomes a failure.
    pub(super) fn call(&self, context: FunctionContext, input: Value, pool: &BlockingPool) -> Call {
        let is_muted = context.has_secrets();
        match self {
            Self::Async(function) => {
                let function = Arc::clone(function);
                let call = async move { function(context, input).await };
                let call = AssertUnwindSafe(call).catch_unwind().map(|ended| match ended {
                    Ok(outcome) => outcome,
                    Err(panic) => Err(Panicked(panic).into()),
                });
                if is_muted { Box::pin(Muted(Box::pin(call))) } else { Box::pin(call) }
            }
            Self::Blocking(function) => {
                let (function, (reply, answer)) = (Arc::clone(function), oneshot::channel());
                pool.submit(Box::new(move || {
                    if context.is_cancelled() {
                        // Cancelled while it was queued. Dropping `reply` reports that.
                        return;
                    }
                    let call = AssertUnwindSafe(|| function(context, input));
                    let ended = muted(is_muted, || catch_unwind(call));
                    let outcome = ended.unwrap_or_else(|panic| Err(Panicked(panic).into()));
                    // The receiver may have been dropped.
                    drop(reply.send(outcome));
                }));
                Box::pin(async move {
                    answer.await.unwrap_or_else(|_| Err(Failure::of(CauseKind::Preempted)))
                })
            }
        }
    }
}

/// The payload of a panic.
struct Panicked(Box<dyn Any + Send>);

impl From<Panicked> for Failure {
    fn from(panic: Panicked) -> Self {
        let text = panic.0.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.0.downcast_ref::<String>().cloned());
        Failure::new(Cause::of(CauseKind::Panic), &text.unwrap_or_default())
    }
}

/// A worker's functions, by name.
#[derive(Clone, Default)]
pub struct Functions(BTreeMap<String, Function>);

impl Functions {
    /// Adds an asynchronous function.
    pub fn add<I, O, E, F>(
        &mut self,
        name: String,
        function: impl Fn(FunctionContext, I) -> F + Send + Sync + 'static,
    ) where
        I: DeserializeOwned + Send + 'static,
        O: Serialize,
        E: Display,
        F: Future<Output = Result<O, E>> + Send + 'static,
    {
        let erased = move |context, input| -> Call {
            let running = read(input).map(|input| function(context, input));
            Box::pin(async move { write(running?.await) })
        };
        self.0.insert(name, Function::Async(Arc::new(erased)));
    }

    /// Adds a blocking function.
    pub fn add_blocking<I, O, E>(
        &mut self,
        name: String,
        function: impl Fn(FunctionContext, I) -> Result<O, E> + Send + Sync + 'static,
    ) where
        I: DeserializeOwned,
        O: Serialize,
        E: Display,
    {
        let erased = move |context, input| write(function(context, read(input)?));
        self.0.insert(name, Function::Blocking(Arc::new(erased)));
    }

    /// Iterates over the names of all functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns whether there are no functions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn read<I: DeserializeOwned>(input: Value) -> Result<I, Failure> {
    serde_json::from_value(input)
        .map_err(|error| exception(&format!("the input does not fit the function: {error}")))
}

/// Returns the type name of an error for retry policies, or an empty string for string types.
fn error_type<E>() -> &'static str {
    let name = std::any::type_name::<E>();
    let name = name.split('<').next().unwrap_or(name).trim_start_matches('&');
    if matches!(name, "str" | "alloc::string::String") { "" } else { name }
}

fn write<O: Serialize, E: Display>(ended: Result<O, E>) -> Result<String, Failure> {
    let output = ended.map_err(|error| exception(&error.to_string()).raised(error_type::<E>()))?;
    serde_json::to_string(&output)
        .map_err(|error| exception(&format!("the output is not JSON: {error}")))
}
