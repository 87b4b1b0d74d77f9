//! Handles submissions and evaluation results.

use std::sync::Arc;

use kahn_model::{Failure, RunId, TaskIx, TaskState, Work};

use crate::change::{Change, Submission, Verdict};
use crate::core::Core;
use crate::refusal::Refusal;
use crate::state::Flags;

impl Core {
    /// Submits a run. A repeated submission is accepted and changes nothing.
    pub(crate) fn on_submitted(&mut self, submission: Arc<Submission>) -> Result<(), Refusal> {
        if let Some(known) = self.state.summary(submission.run) {
            let is_same =
                known.digest == submission.digest && *known.namespace == submission.namespace;
            return if is_same { Ok(()) } else { Err(Refusal::Conflict(submission.run)) };
        }
        self.emit(Change::RunSubmitted(submission));
        Ok(())
    }

    /// Handles the result of an evaluation. Late and repeated results are dropped.
    pub(crate) fn on_evaluated(
        &mut self,
        run: RunId,
        task: TaskIx,
        outcome: Result<Option<Arc<Work>>, Failure>,
    ) {
        let Some(known) = self.state.run(run) else { return };
        if !known.dag.contains(task) {
            return;
        }
        let cell = known.cell(task);
        let is_awaited = cell.flags.has(Flags::EVALUATING) && !cell.flags.has(Flags::EVALUATED);
        if cell.state != TaskState::Pending || !is_awaited {
            return;
        }
        let verdict = match outcome {
            Ok(work) => Verdict::Run(work),
            Err(failure) if failure.cause.kind == kahn_model::CauseKind::Condition => Verdict::Skip,
            Err(failure) => Verdict::Fail(failure),
        };
        self.emit(Change::TaskEvaluated { run, task, verdict });
    }
}
