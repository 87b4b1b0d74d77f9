//! A separate thread for expressions, so that they do not block an event loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use kahn_model::{Condition, Text, Work};

use super::ExprError;
use super::evaluate::Engine;
use super::scope::Scope;
use super::stack::{STACK_BYTES, mark_large};

type Job = Box<dyn FnOnce(&mut Engine) + Send>;

/// Owns a thread with a large stack that evaluates requests in order and caches parsed expressions.
/// After a drop, the thread completes the accepted requests and ends.
#[derive(Debug)]
pub struct Evaluator {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Evaluator {
    /// Starts the thread with a queue of at most `queue_max` requests.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be created.
    pub fn start(queue_max: usize) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(queue_max);
        let thread = std::thread::Builder::new()
            .name("kahn-evaluator".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                mark_large();
                let mut engine = Engine::new();
                while let Ok(job) = queue.recv() {
                    // A panic loses one response, but does not end the thread.
                    if catch_unwind(AssertUnwindSafe(|| job(&mut engine))).is_err() {
                        engine = Engine::new();
                    }
                }
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Evaluates a condition and waits for the result.
    ///
    /// # Errors
    ///
    /// Like [`evaluate_condition`](super::evaluate_condition).
    pub fn condition(&self, condition: &Condition, scope: &Scope) -> Result<bool, ExprError> {
        let (source, scope) = (condition.0.clone(), scope.clone());
        self.ask(move |engine| engine.condition(&source, &scope))
    }

    /// Renders a string and waits for the result.
    ///
    /// # Errors
    ///
    /// Like [`render`](super::render).
    pub fn render(&self, text: &Text, scope: &Scope) -> Result<String, ExprError> {
        let (text, scope) = (text.clone(), scope.clone());
        self.ask(move |engine| engine.render(text.as_str(), &scope))
    }

    /// Renders work and waits for the result.
    ///
    /// # Errors
    ///
    /// Like [`render_work`](super::render_work).
    pub fn render_work(&self, work: &Work, scope: &Scope) -> Result<Work, ExprError> {
        let (work, scope) = (work.clone(), scope.clone());
        self.ask(move |engine| engine.work(&work, &scope))
    }

    /// Submits a condition without waiting. `reply` is called on the evaluator's thread and should
    /// only forward the result. If the evaluation panics, `reply` is dropped without being called.
    ///
    /// # Errors
    ///
    /// Returns [`ExprError::Unavailable`] if the queue is full.
    pub fn submit_condition(
        &self,
        condition: Condition,
        scope: Scope,
        reply: impl FnOnce(Result<bool, ExprError>) + Send + 'static,
    ) -> Result<(), ExprError> {
        self.submit(Box::new(move |engine| reply(engine.condition(&condition.0, &scope))))
    }

    /// Submits work without waiting; otherwise like [`Evaluator::submit_condition`].
    ///
    /// # Errors
    ///
    /// Returns [`ExprError::Unavailable`] if the queue is full.
    pub fn submit_work(
        &self,
        work: std::sync::Arc<Work>,
        scope: Scope,
        reply: impl FnOnce(Result<Work, ExprError>) + Send + 'static,
    ) -> Result<(), ExprError> {
        self.submit(Box::new(move |engine| reply(engine.work(&work, &scope))))
    }

    fn submit(&self, job: Job) -> Result<(), ExprError> {
        let jobs = self.jobs.as_ref().expect("invariant: open until dropped");
        jobs.try_send(job).map_err(|error| {
            ExprError::Unavailable(match error {
                TrySendError::Full(_) => "too many evaluations wait".into(),
                TrySendError::Disconnected(_) => "the evaluator has stopped".into(),
            })
        })
    }

    fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine) -> Result<R, ExprError> + Send + 'static,
    ) -> Result<R, ExprError> {
        let gone = || ExprError::Unavailable("the evaluator has stopped".into());
        let (reply, answer) = sync_channel(1);
        let job: Job = Box::new(move |engine| _ = reply.send(question(engine)));
        let jobs = self.jobs.as_ref().expect("invariant: open until dropped");
        jobs.send(job).map_err(|_| gone())?;
        answer.recv().map_err(|_| ExprError::Unavailable("the evaluation panicked".into()))?
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}
