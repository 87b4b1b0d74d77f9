//! A worker with functions of its own, which tasks call by name: see `functions.yaml` beside it.
//!
//! It is configured as every worker is, by `kahn.toml` and `KAHN_WORKER__…`, and also carries out
//! all that every worker can.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use kahn_worker::{Config, FunctionContext, Worker};
use serde::{Deserialize, Serialize};

/// As in `kahn` itself: a worker allocates a little for each of many thousand attempts a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `count_words` is given.
#[derive(Deserialize)]
struct Document {
    text: String,
}

/// What `count_words` gives; each field is an output of the task.
#[derive(Serialize)]
struct Words {
    total: usize,
    longest: String,
}

/// Blocks a thread while it computes, so it is registered as a blocking function.
fn count_words(context: FunctionContext, document: Document) -> Result<Words, String> {
    let words: Vec<&str> = document.text.split_whitespace().collect();
    context.log(format!("attempt {} reads {} words", context.attempt().number, words.len()));
    let longest = words.iter().max_by_key(|word| word.len()).ok_or("there are no words")?;
    Ok(Words { total: words.len(), longest: (*longest).to_owned() })
}

/// Uses a secret, which the task gives it as the variable KEY. Whatever it says of it is masked.
fn unlock(context: FunctionContext, door: String) -> Result<bool, String> {
    let key = context.variable("KEY").ok_or("the task gives no KEY")?;
    context.log(format!("tries {key} at the {door}"));
    match door.as_str() {
        "wall" => panic!("{key} broke"),
        "attic" => Err(format!("{key} does not fit the attic")),
        _ => Ok(key.ends_with("=")),
    }
}

/// What `average` is given.
#[derive(Deserialize)]
struct Numbers {
    numbers: Vec<u64>,
}

/// Panics when there are no numbers, which fails the attempt and leaves the worker as it was.
fn average(_context: FunctionContext, given: Numbers) -> Result<u64, String> {
    Ok(given.numbers.iter().sum::<u64>() / u64::try_from(given.numbers.len()).unwrap_or(u64::MAX))
}

/// What `write_lines` and `trickle` are given.
#[derive(Deserialize)]
struct Lines {
    file: PathBuf,
    lines: u64,
}

const LINE_EVERY: Duration = Duration::from_millis(5);

/// Takes its time. Nobody can end a thread, so it looks by itself whether it is still wanted.
fn write_lines(context: FunctionContext, given: Lines) -> std::io::Result<u64> {
    let mut file = std::fs::File::create(given.file)?;
    for number in 0..given.lines {
        if context.is_cancelled() {
            return Ok(number);
        }
        writeln!(file, "{number}")?;
        std::thread::sleep(LINE_EVERY);
    }
    Ok(given.lines)
}

/// As `write_lines`, but need not look: it is dropped at its next `await` when its grace is over.
async fn trickle(_context: FunctionContext, given: Lines) -> std::io::Result<u64> {
    let mut file = std::fs::File::create(given.file)?;
    for number in 0..given.lines {
        writeln!(file, "{number}")?;
        tokio::time::sleep(LINE_EVERY).await;
    }
    Ok(given.lines)
}

/// Waits, and stops early when the attempt is cancelled.
async fn countdown(context: FunctionContext, from: u64) -> Result<(), String> {
    for left in (1..=from).rev() {
        context.progress(from - left, from);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            () = context.cancellation().cancelled() => return Err(format!("{left} were left")),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Worker::builder(Config::load()?)
        .blocking_function("count_words", count_words)
        .blocking_function("unlock", unlock)
        .blocking_function("average", average)
        .blocking_function("write_lines", write_lines)
        .function("trickle", trickle)
        .function("countdown", countdown)
        .function("join", async |_context: FunctionContext, parts: BTreeMap<String, String>| {
            Ok::<_, String>(parts.into_values().collect::<Vec<_>>().join(" "))
        })
        // Shows what a call costs by itself: see `kahn bench --worker-program`.
        .function("noop", async |_context: FunctionContext, _nothing: ()| Ok::<_, String>(()))
        .run()
        .await?;
    Ok(())
}
