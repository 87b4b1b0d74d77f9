//! Evaluates conditions and templates of tasks outside the event loop.

use std::sync::Arc;

use kahn_core::{Core, Event, Run};
use kahn_model::{Cause, CauseKind, Condition, Failure, RunId, TaskIx, Work};
use kahn_spec::{Evaluator, ExprError, RunView, Scope, TaskView};
use tokio::sync::mpsc;

use crate::inbox::Input;

/// Maximum number of waiting evaluations; further ones are requested again.
const QUEUE_MAX: usize = 4096;

/// The evaluator's thread, and the inbox for its results.
#[derive(Debug)]
pub(crate) struct Evaluators {
    evaluator: Arc<Evaluator>,
    inbox: mpsc::Sender<Input>,
}

/// The evaluation of one task.
#[derive(Debug)]
pub(crate) struct Request {
    run: RunId,
    task: TaskIx,
    condition: Option<Condition>,
    work: Option<Arc<Work>>,
    scope: Scope,
}

impl Evaluators {
    /// Starts the thread.
    pub(crate) fn start_thread(inbox: mpsc::Sender<Input>) -> std::io::Result<Self> {
        Ok(Self { evaluator: Arc::new(Evaluator::start(QUEUE_MAX)?), inbox })
    }

    /// Evaluates a task, and sends the result to the core.
    pub(crate) fn start(&self, core: &Core, run: RunId, task: TaskIx) {
        let Some(request) = request(core, run, task) else { return };
        let evaluator = Arc::clone(&self.evaluator);
        let inbox = self.inbox.clone();
        // Waiting for the evaluator's short queue must not block the driver.
        tokio::task::spawn_blocking(move || {
            // The driver may be gone.
            drop(inbox.blocking_send(Input::Event(answer(&evaluator, request))));
        });
    }
}

/// Returns what to evaluate for a task, with everything its expressions can access.
pub(crate) fn request(core: &Core, run: RunId, task: TaskIx) -> Option<Request> {
    let known = core.state().run(run)?;
    let work = known.dag.work(task);
    Some(Request {
        run,
        task,
        condition: known.dag.condition(task).cloned(),
        work: work.is_dynamic().then(|| Arc::clone(work)),
        scope: scope(known, task),
    })
}

/// Evaluates a request, and returns the result as an event.
pub(crate) fn answer(evaluator: &Evaluator, request: Request) -> Event {
    let (run, task) = (request.run, request.task);
    Event::Evaluated { run, task, outcome: evaluate(evaluator, request) }
}

fn evaluate(evaluator: &Evaluator, request: Request) -> Result<Option<Arc<Work>>, Failure> {
    if let Some(condition) = &request.condition {
        let is_wanted = evaluator.condition(condition, &request.scope).map_err(|e| failed(&e))?;
        if !is_wanted {
            return Err(Failure::of(CauseKind::Condition));
        }
    }
    let Some(work) = request.work else { return Ok(None) };
    let rendered = evaluator.render_work(&work, &request.scope).map_err(|e| failed(&e))?;
    Ok(Some(Arc::new(rendered)))
}

fn failed(error: &ExprError) -> Failure {
    Failure::new(Cause::of(CauseKind::Expression), &error.to_string())
}

/// Returns what the expressions of `task` can access: all its direct and indirect dependencies.
fn scope(run: &Run, task: TaskIx) -> Scope {
    let mut scope = Scope {
        run: RunView {
            id: run.id().to_string(),
            name: run.dag.name().to_string(),
            namespace: run.submission.namespace.to_string(),
        },
        ..Scope::default()
    };
    let mut seen = vec![false; run.dag.n_tasks()];
    let mut open = vec![task];
    while let Some(at) = open.pop() {
        for edge in run.dag.dependencies(at) {
            if !std::mem::replace(&mut seen[edge.task.index()], true) {
                open.push(edge.task);
                let name = run.dag.task_name(edge.task).to_owned();
                scope.tasks.insert(name, view(run, edge.task));
            }
        }
    }
    scope
}

fn view(run: &Run, task: TaskIx) -> TaskView {
    let exit_code = run
        .failure(task)
        .filter(|failure| failure.cause.kind == CauseKind::ExitCode)
        .map(|failure| failure.cause.code);
    TaskView {
        status: run.cell(task).state,
        outputs: run.outputs(task).map(|outputs| (**outputs).clone()).unwrap_or_default(),
        exit_code,
    }
}
