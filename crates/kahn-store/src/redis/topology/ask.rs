//! Questions to several servers at once.

use std::time::Duration;

use ::redis::{Pipeline, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::StoreError;
use crate::redis::address::Endpoint;
use crate::redis::dial::Dialer;

/// How long a server may take to accept a connection and answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// The answers of servers, as they arrive.
pub(super) struct Answers {
    tasks: JoinSet<(Endpoint, Result<Vec<Value>, StoreError>)>,
}

impl Answers {
    /// Asks all `servers` at once. They are no longer asked once this is dropped.
    pub(super) fn of(dialer: &Dialer, servers: &[Endpoint], commands: &Pipeline) -> Self {
        let mut tasks = JoinSet::new();
        for server in servers {
            let (dialer, server, commands) = (dialer.clone(), server.clone(), commands.clone());
            tasks.spawn(async move {
                let asked = timeout(ANSWER_MAX, ask(&dialer, &server, &commands)).await;
                let late = || StoreError::NoAnswer { server: server.to_string() };
                let answer = asked.unwrap_or_else(|_| Err(late()));
                (server, answer)
            });
        }
        Self { tasks }
    }

    /// Returns the next answer, or `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<(Endpoint, Result<Vec<Value>, StoreError>)> {
        loop {
            // A task cannot be cancelled while the set exists, and it does not panic.
            if let Ok(answer) = self.tasks.join_next().await? {
                return Some(answer);
            }
        }
    }
}

/// Connects to a server for these commands only.
async fn ask(
    dialer: &Dialer,
    server: &Endpoint,
    commands: &Pipeline,
) -> Result<Vec<Value>, StoreError> {
    let mut dialed = dialer.dial(server).await?;
    let answers = dialed.run(commands, commands.len()).await;
    answers.map_err(|error| dialer.failed(server, error))
}
