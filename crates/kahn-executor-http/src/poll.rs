//! Repeats a request until its condition holds.

use std::sync::Arc;

use kahn_model::{Cause, CauseKind, Condition, Failure, Outputs, Polling};
use kahn_spec::{Evaluator, ExprError, Scope};
use tokio::sync::oneshot;

use super::answer::Answer;
use super::exchange::{Detail, Wire};
use super::prepare::Prepared;
use super::transcript::Transcript;

/// The result of judging a response.
enum Verdict {
    /// The condition holds.
    Done,
    /// The condition does not hold yet.
    Again,
    /// The attempt has failed.
    Failed(Failure),
}

/// Repeats a request until its condition holds for the response.
///
/// The condition is evaluated for every response. A response with an unexpected status fails the
/// attempt unless the condition holds for it or refers to the status. If there is no response, the
/// request is repeated. The log contains the status of each response, and the last response in
/// full.
pub(super) struct Poll<'a> {
    pub(super) wire: &'a Wire,
    pub(super) evaluator: &'a Arc<Evaluator>,
    pub(super) request: &'a Prepared,
    pub(super) polling: &'a Polling,
    pub(super) timeout: std::time::Duration,
}

impl Poll<'_> {
    pub(super) async fn run(&self, transcript: &mut Transcript) -> Result<Outputs, Failure> {
        let every = self.polling.every;
        transcript.remark(format_args!("repeats the request every {every:?} until `until` holds"));
        let mut detail = Detail::All;
        let mut n = 0_u64;
        loop {
            n += 1;
            let answered = self.wire.exchange(self.request, self.timeout, detail, transcript).await;
            match answered {
                Ok(answer) => {
                    let verdict = self.judge(&answer).await;
                    let is_last = !matches!(verdict, Verdict::Again);
                    if is_last && detail == Detail::Nothing {
                        answer.show_head(transcript);
                        transcript.body(&answer.body).await;
                    }
                    match verdict {
                        Verdict::Done => return Ok(answer.outputs(transcript)),
                        Verdict::Failed(failure) => return Err(failure),
                        Verdict::Again => {}
                    }
                    transcript.remark(format_args!("answer {n}: {}, not yet", answer.status));
                }
                Err(failure) if failure.cause.kind == CauseKind::Unreachable => {
                    transcript.remark(format_args!("answer {n}: none: {}", failure.message));
                }
                Err(failure) => return Err(failure),
            }
            detail = Detail::Nothing;
            transcript.flush().await;
            tokio::time::sleep(every).await;
        }
    }

    async fn judge(&self, answer: &Answer) -> Verdict {
        let until = &self.polling.until;
        let is_expected = self.request.expects(answer.status.as_u16());
        let unexpected = || answer.unexpected(&self.request.expected());
        match self.evaluate(until, answer).await {
            Ok(true) => Verdict::Done,
            Ok(false) if is_expected || is_about_status(until) => Verdict::Again,
            Ok(false) => Verdict::Failed(unexpected()),
            // The queue is full, which is temporary.
            Err(ExprError::Unavailable(reason)) => {
                tracing::warn!(reason, "a condition was not evaluated");
                Verdict::Again
            }
            Err(_) if !is_expected => Verdict::Failed(unexpected()),
            Err(error) => {
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                let message = format!("`until`: {error}{hint}");
                Verdict::Failed(Failure::new(Cause::of(CauseKind::Expression), &message))
            }
        }
    }

    async fn evaluate(&self, until: &Condition, answer: &Answer) -> Result<bool, ExprError> {
        let scope = Scope { response: Some(answer.for_condition()), ..Scope::default() };
        let (reply, evaluated) = oneshot::channel();
        // The receiver is gone if the attempt has ended.
        self.evaluator.submit_condition(until.clone(), scope, |result| _ = reply.send(result))?;
        evaluated.await.unwrap_or_else(|_| Err(ExprError::Failed("evaluation panicked".into())))
    }
}

/// Returns whether a condition refers to `response.status`.
fn is_about_status(condition: &Condition) -> bool {
    let is_status = |rest: &str| {
        let rest = rest.trim_start();
        if let Some(field) = rest.strip_prefix('.') {
            let after = field.trim_start().strip_prefix("status");
            let goes_on =
                |after: &str| after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            return after.is_some_and(|after| !goes_on(after));
        }
        let key = rest.strip_prefix('[').map(str::trim_start).unwrap_or_default();
        key.starts_with("'status'") || key.starts_with("\"status\"")
    };
    condition.0.split("response").skip(1).any(is_status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_about_the_status_is_recognised() {
        let is_about = |text: &str| is_about_status(&Condition(text.into()));
        assert!(is_about("response.status == 200"));
        assert!(is_about("200 <= response . status && response.json.ok"));
        assert!(is_about("response['status'] in [200, 404]"));
        assert!(is_about("response.status in [200, 404] || response.body == ''"));
        assert!(!is_about("response.json.status == 'done'"));
        assert!(!is_about("response.status_text == 'done'"));
        assert!(!is_about("response.headers['status'] == 'done'"));
    }
}
