//! The fields of changes that are not stored in columns.

use std::sync::Arc;
use std::time::Duration;

use kahn_core::{Then, Verdict};
use kahn_model::{Failure, Outputs, TaskIx};
use kahn_proto::convert::{ConvertError, report, work};
use kahn_proto::storage as wire;
use wire::detail::Of;
use wire::evaluated::Verdict as WireVerdict;
use wire::finished::Outcome;

use crate::codec::CodecError;

pub(super) fn finished(outcome: &Result<Outputs, Failure>, then: Then) -> Of {
    let (then, retry_after_nanos) = match then {
        Then::End => (wire::Then::End, 0),
        Then::Retry { after } => {
            (wire::Then::Retry, u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
        }
        Then::Cancel => (wire::Then::Cancel, 0),
    };
    let outcome = match outcome {
        Ok(outputs) => Outcome::Outputs(report::outputs_to_wire(outputs)),
        Err(failure) => Outcome::Failure(report::failure_to_wire(failure)),
    };
    Of::Finished(wire::Finished { outcome: Some(outcome), then: then.into(), retry_after_nanos })
}

pub(super) fn finished_from_wire(
    finished: wire::Finished,
) -> Result<(Result<Outputs, Failure>, Then), CodecError> {
    let outcome = match finished.outcome {
        Some(Outcome::Outputs(outputs)) => Ok(report::outputs_from_wire(outputs)?),
        Some(Outcome::Failure(failure)) => Err(report::failure_from_wire(&failure)?),
        None => return Err(ConvertError::Missing { field: "finished.outcome" }.into()),
    };
    let found = finished.then;
    let then = match wire::Then::try_from(found) {
        Ok(wire::Then::End) => Then::End,
        Ok(wire::Then::Retry) => {
            Then::Retry { after: Duration::from_nanos(finished.retry_after_nanos) }
        }
        Ok(wire::Then::Cancel) => Then::Cancel,
        Ok(wire::Then::Unspecified) | Err(_) => {
            return Err(ConvertError::UnknownValue { field: "finished.then", found }.into());
        }
    };
    Ok((outcome, then))
}

pub(super) fn evaluated(verdict: &Verdict) -> Of {
    let verdict = match verdict {
        Verdict::Run(None) => WireVerdict::Unchanged(wire::evaluated::Unchanged {}),
        Verdict::Run(Some(rendered)) => WireVerdict::Rendered(work::to_wire(rendered)),
        Verdict::Skip => WireVerdict::Skip(wire::evaluated::Skip {}),
        Verdict::Fail(failure) => WireVerdict::Failure(report::failure_to_wire(failure)),
    };
    Of::Evaluated(wire::Evaluated { verdict: Some(verdict) })
}

pub(super) fn evaluated_from_wire(evaluated: wire::Evaluated) -> Result<Verdict, CodecError> {
    match evaluated.verdict {
        Some(WireVerdict::Unchanged(wire::evaluated::Unchanged {})) => Ok(Verdict::Run(None)),
        Some(WireVerdict::Rendered(rendered)) => {
            Ok(Verdict::Run(Some(Arc::new(work::from_wire(rendered)?))))
        }
        Some(WireVerdict::Skip(wire::evaluated::Skip {})) => Ok(Verdict::Skip),
        Some(WireVerdict::Failure(failure)) => {
            Ok(Verdict::Fail(report::failure_from_wire(&failure)?))
        }
        None => Err(ConvertError::Missing { field: "evaluated.verdict" }.into()),
    }
}

pub(super) fn retried(tasks: &[TaskIx]) -> Of {
    let mut last = 0u32;
    let step = |task: &TaskIx| {
        let step = task.0.wrapping_sub(last);
        last = task.0;
        step
    };
    Of::Retried(wire::Tasks { steps: tasks.iter().map(step).collect() })
}

pub(super) fn retried_from_wire(tasks: &wire::Tasks) -> Vec<TaskIx> {
    let mut last = 0u32;
    let task = |step: &u32| {
        last = last.wrapping_add(*step);
        TaskIx(last)
    };
    tasks.steps.iter().map(task).collect()
}
