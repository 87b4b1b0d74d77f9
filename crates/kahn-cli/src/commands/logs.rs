//! `kahn logs`: what a task printed.

use clap::Args;
use kahn_client::{Client, LogPiece, LogQuery};
use kahn_model::RunId;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::local::Reader;
use crate::output;
use crate::render::text;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run
    run: RunId,
    /// The task
    task: String,
    /// The attempt, from 1 [default: the latest]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Go on until the attempt has ended
    #[arg(long, short)]
    follow: bool,
    /// Only so many bytes before the end to begin with
    #[arg(long, value_name = "BYTES")]
    tail: Option<u64>,
}

pub(crate) async fn run(args: LogsArgs, context: &Context) -> Result<Exit, Failure> {
    let reader = Reader::of_run(context, args.run).await?;
    let done = show(&args, context, &reader.client).await;
    reader.close().await;
    done.map(|()| Exit::Success)
}

async fn show(args: &LogsArgs, context: &Context, client: &Client) -> Result<(), Failure> {
    let query = LogQuery {
        run: args.run,
        task: args.task.clone(),
        attempt: args.attempt,
        offset: 0,
        tail_bytes: args.tail,
        is_following: args.follow,
    };
    let mut logs = client.logs(query);
    let mut printer = Printer { is_json: context.is_json(), ..Printer::default() };
    while let Some(piece) = logs.next().await? {
        printer.take(piece)?;
    }
    printer.finish()
}

/// Prints output: as it is to a pipe, and without anything that steers a terminal to one.
#[derive(Debug, Default)]
struct Printer {
    is_json: bool,
    /// The beginning of a character whose end is still to come.
    rest: Vec<u8>,
}

impl Printer {
    fn take(&mut self, piece: LogPiece) -> Result<(), Failure> {
        if self.is_json {
            return output::json(&json!({
                "attempt": piece.attempt,
                "offset": piece.offset,
                "data": String::from_utf8_lossy(&piece.data),
                "is_sealed": piece.is_sealed,
            }));
        }
        if !output::is_terminal() {
            return output::bytes(&piece.data);
        }
        self.rest.extend(piece.data);
        let end = whole_characters(&self.rest);
        let text: Vec<u8> = self.rest.drain(..end).collect();
        output::text(&text::safe_lines(&String::from_utf8_lossy(&text)))
    }

    fn finish(self) -> Result<(), Failure> {
        output::text(&text::safe_lines(&String::from_utf8_lossy(&self.rest)))
    }
}

/// Where the last character ends that is there as a whole. Bytes that are part of no character are
/// replaced when they are printed, not waited for.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.iter().rev().take(3).position(|byte| *byte >= 0xc0);
    let Some(start) = tail.map(|back| bytes.len() - back - 1) else { return bytes.len() };
    match std::str::from_utf8(&bytes[start..]) {
        Err(error) if error.error_len().is_none() => start,
        Ok(_) | Err(_) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_waits_for_its_end() {
        let text = "aö".as_bytes();
        assert_eq!(whole_characters(&text[..2]), 1);
        assert_eq!(whole_characters(text), 3);
        assert_eq!(whole_characters(b"\xff\xfea"), 3);
        assert_eq!(whole_characters(b"\xffa\xc3"), 2);
        assert_eq!(whole_characters(b""), 0);
    }
}
