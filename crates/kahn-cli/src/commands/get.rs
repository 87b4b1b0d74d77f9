//! `kahn get`: prints a run and its tasks.

use clap::Args;
use kahn_client::{Client, Task, TaskFilter};
use kahn_model::{RunId, RunRef, TaskState};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::local::Reader;
use crate::output;
use crate::render::run::{self, RunJson};

const TASKS_PER_PAGE: u32 = 5000;
/// Maximum failed tasks shown without `--tasks`.
const FAILED_MAX: u32 = 100;

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
    /// Show all tasks, not only failed ones
    #[arg(long)]
    tasks: bool,
}

pub(crate) async fn run(args: GetArgs, context: &Context) -> Result<Exit, Failure> {
    let reader = Reader::of_run(context, args.run).await?;
    let done = show(&args, context, &reader).await;
    reader.close().await;
    done.map(|()| Exit::Success)
}

async fn show(args: &GetArgs, context: &Context, reader: &Reader) -> Result<(), Failure> {
    let client = &reader.client;
    let mut found = client.get(reader.run).await?;
    if reader.is_at_rest() {
        // Without a worker in this process, the reasons for waiting are meaningless.
        found.waiting.clear();
    }
    let n_failed = found.tasks.get(&TaskState::Failed).copied().unwrap_or(0);
    let tasks = if args.tasks { Some(tasks(client, reader.run).await?) } else { None };
    if context.is_json() {
        return output::json(&RunJson::of(&found, tasks.as_deref()));
    }
    let mut text = run::details(&found);
    if let Some(tasks) = &tasks {
        text.push('\n');
        text.push_str(&run::tasks(tasks));
    } else if n_failed > 0 {
        let filter = TaskFilter { states: vec![TaskState::Failed], ..TaskFilter::default() };
        let failed = client.list_tasks(reader.run, &filter, FAILED_MAX, None).await?;
        text.push('\n');
        text.push_str(&run::tasks(&failed.items));
        let n_more = n_failed.saturating_sub(FAILED_MAX);
        if n_more > 0 {
            text.push_str(&format!("and {n_more} more failed tasks; --tasks lists all\n"));
        }
    }
    output::text(&text)
}

/// Returns all tasks of a run, in the order of the file.
async fn tasks(client: &Client, run: RunId) -> Result<Vec<Task>, Failure> {
    let filter = TaskFilter::default();
    let mut tasks = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let found = client.list_tasks(run, &filter, TASKS_PER_PAGE, page.as_deref()).await?;
        tasks.extend(found.items);
        page = found.next;
        if page.is_none() {
            return Ok(tasks);
        }
    }
}
