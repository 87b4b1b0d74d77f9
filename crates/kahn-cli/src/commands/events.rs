//! `kahn events`: prints the events of a run, and with `--follow` also new ones.

use clap::Args;
use kahn_client::Event;
use kahn_model::RunRef;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::local::Reader;
use crate::output;
use crate::render::event::{self, EventJson};

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Run: its ID, a prefix of it, or `last`
    run: RunRef,
    /// Only events with a higher sequence number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// Continue until the run has ended
    #[arg(long, short)]
    follow: bool,
}

pub(crate) async fn run(args: EventsArgs, context: &Context) -> Result<Exit, Failure> {
    let reader = Reader::of_run(context, args.run).await?;
    let done = show(&args, context, &reader).await;
    reader.close().await;
    done.map(|()| Exit::Success)
}

async fn show(args: &EventsArgs, context: &Context, reader: &Reader) -> Result<(), Failure> {
    let mut watch = match args.follow {
        true => reader.client.watch(reader.run, args.after),
        false => reader.client.history(reader.run, args.after),
    };
    while let Some(update) = watch.next().await? {
        print(&update.events, context.is_json())?;
    }
    Ok(())
}

fn print(events: &[Event], is_json: bool) -> Result<(), Failure> {
    if is_json {
        return output::json_lines(events.iter().map(EventJson::of));
    }
    let lines: String = events.iter().map(|one| format!("{}\n", event::line(one))).collect();
    output::text(&lines)
}
