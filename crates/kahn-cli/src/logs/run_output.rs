//! The output of all tasks of a run, while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_client::{Client, Error, LogPiece, LogQuery};
use kahn_model::RunId;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::printer::{Printer, Style};
use crate::exit::Failure;

/// Maximum tasks followed at a time; the others are read after one of these has ended.
const FOLLOWED_MAX: usize = 100;
/// Maximum pieces of all tasks buffered for printing.
const PIECES_MAX: usize = 64;

/// Follows the output of all tasks of a run, from their first attempts on.
#[derive(Debug)]
pub(crate) struct RunOutput {
    style: Style,
    pieces: mpsc::Receiver<Piece>,
    watching: JoinHandle<Result<(), Error>>,
    printers: BTreeMap<String, Printer>,
}

/// A piece of the output of one task.
#[derive(Debug)]
pub(crate) struct Piece {
    task: String,
    /// `None` after the last piece of the task.
    piece: Option<Result<LogPiece, Error>>,
}

impl RunOutput {
    /// Starts reading.
    pub(crate) fn follow(client: &Client, run: RunId, style: Style) -> Self {
        let (tx, pieces) = mpsc::channel(PIECES_MAX);
        let watching = tokio::spawn(watch_tasks(client.clone(), run, tx));
        Self { style, pieces, watching, printers: BTreeMap::new() }
    }

    /// Waits for the next piece; `None` after the last task of the run has ended. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }

    /// Prints the lines that the piece completes, each prefixed by its task.
    pub(crate) fn print(&mut self, Piece { task, piece }: Piece) -> Result<(), Failure> {
        match piece {
            Some(piece) => {
                let make = || Printer::new(task.clone(), self.style, true);
                self.printers.entry(task.clone()).or_insert_with(make).take(&piece?)
            }
            None => self.printers.remove(&task).map_or(Ok(()), |mut printer| printer.finish()),
        }
    }

    /// Prints incomplete last lines.
    pub(crate) fn print_rest(&mut self) -> Result<(), Failure> {
        std::mem::take(&mut self.printers).values_mut().try_for_each(Printer::finish)
    }

    /// Prints incomplete last lines, and returns an error if the run could not be followed.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        self.print_rest()?;
        self.watching
            .await
            .map_err(|error| Failure::refused(error.to_string()))?
            .map_err(Failure::from)
    }
}

/// Reads the output of each task from its first lease on.
async fn watch_tasks(client: Client, run: RunId, tx: mpsc::Sender<Piece>) -> Result<(), Error> {
    let room = Arc::new(Semaphore::new(FOLLOWED_MAX));
    let mut readers = JoinSet::new();
    let mut seen = BTreeSet::new();
    let mut watch = client.watch(run, 0);
    while let Some(update) = watch.next().await? {
        for event in update.events {
            if event.kind == "task_leased" && seen.insert(event.task.clone()) {
                let (client, room, tx) = (client.clone(), Arc::clone(&room), tx.clone());
                readers.spawn(read_task(client, run, event.task, room, tx));
            }
        }
        // Discard finished readers.
        while readers.try_join_next().is_some() {}
    }
    while readers.join_next().await.is_some() {}
    Ok(())
}

async fn read_task(
    client: Client,
    run: RunId,
    task: String,
    room: Arc<Semaphore>,
    tx: mpsc::Sender<Piece>,
) {
    // Fails only if the semaphore is closed, which never happens.
    let Ok(_permit) = room.acquire().await else { return };
    let query = LogQuery {
        attempt: Some(1),
        is_following: true,
        is_through: true,
        ..LogQuery::new(run, task.clone())
    };
    let mut logs = client.logs(query);
    loop {
        let piece = logs.next().await.transpose();
        let is_over = !matches!(piece, Some(Ok(_)));
        if tx.send(Piece { task: task.clone(), piece }).await.is_err() || is_over {
            return;
        }
    }
}
