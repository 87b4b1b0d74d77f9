//! `kahn logs`: prints the output of running and ended tasks.

use clap::Args;
use kahn_client::{Client, LogPiece, LogQuery, TaskFilter};
use kahn_model::{RunId, RunRef};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::local::Reader;
use crate::logs::{Printer, RunOutput, Style, last_lines};

const TASKS_PER_PAGE: u32 = 5000;
/// Initial request size per line of a tail, and the minimum size.
const BYTES_PER_LINE: u64 = 128;
const TAIL_BYTES_MIN: u64 = 8 << 10;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
    /// Task [default: all tasks, with each line prefixed by its task]
    task: Option<String>,
    /// Attempt, starting at 1 [default: the latest; with --follow, also later ones]
    #[arg(long, value_name = "N", requires = "task", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Continue until the task or the run has ended, reconnecting as needed
    #[arg(long, short)]
    follow: bool,
    /// Start with at most this many lines from the end
    #[arg(long, value_name = "LINES", requires = "task")]
    tail: Option<u32>,
    /// Escape control characters, as is always done on a terminal
    #[arg(long)]
    plain: bool,
}

pub(crate) async fn run(args: LogsArgs, context: &Context) -> Result<Exit, Failure> {
    let reader = Reader::of_run(context, args.run).await?;
    let style = Style::of(context.is_json(), args.plain);
    // Without a worker, there can be no new output.
    let is_following = args.follow && !reader.is_at_rest();
    let done = match (&args.task, is_following) {
        (Some(task), _) => {
            let printer = Printer::new(task.clone(), style, false);
            show_task(&args, task, is_following, printer, &reader).await
        }
        (None, false) => show_run(reader.run, style, &reader.client).await,
        (None, true) => follow_run(reader.run, style, &reader.client).await,
    };
    reader.close().await;
    done.map(|()| Exit::Success)
}

async fn show_task(
    args: &LogsArgs,
    task: &str,
    is_following: bool,
    mut printer: Printer,
    reader: &Reader,
) -> Result<(), Failure> {
    let is_through = is_following && args.attempt.is_none();
    let base = LogQuery { attempt: args.attempt, ..LogQuery::new(reader.run, task) };
    let mut query = LogQuery { is_following, is_through, ..base.clone() };
    if let Some(n) = args.tail
        && let Some(tail) = read_tail(&reader.client, &base, n).await?
    {
        query.attempt = Some(tail.attempt);
        query.offset = tail.offset + u64::try_from(tail.data.len()).unwrap_or(0);
        printer.take(&tail)?;
    }
    let mut logs = reader.client.logs(query);
    while let Some(piece) = logs.next().await? {
        printer.take(&piece)?;
    }
    printer.finish()
}

/// Reads the last `n` lines of the current output, or returns `None` if it is empty.
async fn read_tail(client: &Client, base: &LogQuery, n: u32) -> Result<Option<LogPiece>, Failure> {
    let mut wanted = (u64::from(n) * BYTES_PER_LINE).max(TAIL_BYTES_MIN);
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    loop {
        let mut logs = client.logs(LogQuery { tail_bytes: Some(wanted), ..base.clone() });
        let mut all: Option<LogPiece> = None;
        while let Some(piece) = logs.next().await? {
            match &mut all {
                None => all = Some(LogPiece { is_sealed: false, missing: None, ..piece }),
                Some(all) => all.data.extend(piece.data),
            }
        }
        let Some(all) = all else { return Ok(None) };
        if let Some((offset, bytes)) = last_lines(all.offset, &all.data, n) {
            return Ok(Some(LogPiece { offset, data: bytes.to_vec(), ..all }));
        }
        wanted = wanted.saturating_mul(8);
    }
}

/// Prints the output of the latest attempts of all tasks, task by task.
async fn show_run(run: RunId, style: Style, client: &Client) -> Result<(), Failure> {
    let mut page: Option<String> = None;
    loop {
        let filter = TaskFilter::default();
        let found = client.list_tasks(run, &filter, TASKS_PER_PAGE, page.as_deref()).await?;
        for task in found.items.into_iter().filter(|task| task.attempt > 0) {
            let mut logs = client.logs(LogQuery::new(run, task.name.clone()));
            let mut printer = Printer::new(task.name, style, true);
            while let Some(piece) = logs.next().await? {
                printer.take(&piece)?;
            }
            printer.finish()?;
        }
        page = found.next;
        if page.is_none() {
            return Ok(());
        }
    }
}

/// Prints the output of all tasks until the run has ended.
async fn follow_run(run: RunId, style: Style, client: &Client) -> Result<(), Failure> {
    let mut output = RunOutput::follow(client, run, style);
    while let Some(piece) = output.next().await {
        output.print(piece)?;
    }
    output.finish().await
}
