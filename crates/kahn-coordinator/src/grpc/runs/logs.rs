//! What attempts printed.

use kahn_model::AttemptId;
use kahn_proto::api;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Out, RunService, run_id};
use crate::grpc::refuse;
use crate::logs::Logs;

/// Pieces that may wait for a reader that does not read.
const PIECES_MAX: usize = 4;

impl RunService {
    pub(super) async fn read_logs(
        &self,
        request: api::LogsRequest,
    ) -> Result<Out<api::LogsResponse>, Status> {
        let run = run_id(&request.run)?;
        let task = request.task.clone();
        let found = self
            .ask(run, move |run| {
                let Some(ix) = run.dag.task_by_name(&task) else { return Err(task) };
                Ok((ix, u32::from(run.cell(ix).attempt)))
            })
            .await?;
        let (task, latest) = found
            .map_err(|task| refuse::status(kahn_core::Refusal::UnknownTask { run, task }.into()))?;
        let number = if request.attempt == 0 { latest } else { request.attempt };
        if number > latest {
            let message = format!("the task has had {latest} attempts, not {number}");
            return Err(Status::not_found(message));
        }
        let attempt = AttemptId { run, task, number };
        let (tx, pieces) = mpsc::channel(PIECES_MAX);
        let logs = self.logs.clone();
        tokio::spawn(async move {
            if let Err(error) = send(&logs, attempt, &request, &tx).await {
                let status = Status::unavailable(format!("output cannot be read: {error}"));
                // Whoever read may have gone away.
                drop(tx.send(Err(status)).await);
            }
        });
        Ok(Box::pin(ReceiverStream::new(pieces)))
    }
}

async fn send(
    logs: &Logs,
    attempt: AttemptId,
    request: &api::LogsRequest,
    tx: &mpsc::Sender<Result<api::LogsResponse, Status>>,
) -> std::io::Result<()> {
    let mut news = logs.watch(attempt);
    let mut offset = request.offset;
    if request.tail_bytes > 0 {
        offset = offset.max(logs.extent(attempt).await?.len.saturating_sub(request.tail_bytes));
    }
    loop {
        news.mark_unchanged();
        // The seal is looked at first: what was written before it is then read below.
        let is_sealed = logs.extent(attempt).await?.is_sealed;
        let data = logs.read(attempt, offset).await?;
        let is_end = data.is_empty();
        let piece = api::LogsResponse {
            attempt: attempt.number,
            offset,
            data: data.clone(),
            is_sealed: is_end && is_sealed,
        };
        offset += u64::try_from(data.len()).unwrap_or(0);
        if (!is_end || is_sealed) && tx.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
        if !is_end {
            continue;
        }
        if is_sealed || !request.is_following {
            return Ok(());
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return Ok(()) },
            () = tx.closed() => return Ok(()),
        }
    }
}
