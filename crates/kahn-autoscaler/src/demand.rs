//! Asks the coordinators how many workers each pool needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kahn_client::{Client, ClientTls, Error, Options, Pool};
use kahn_runtime::health::Readiness;
use kahn_runtime::token::Token;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tracing::{info, warn};

/// How often the coordinators are asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer counts. A change of the leader takes less.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(15);
/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the coordinators are, and what to show them.
#[derive(Clone, Debug)]
pub struct Coordinators {
    /// The URL of one, or of several, separated by commas.
    pub urls: String,
    /// The clients' token.
    pub token: Option<Token>,
    /// The files for URLs that begin with `https://`.
    pub tls: ClientTls,
}

impl Coordinators {
    /// Connects to one of them.
    async fn connect(&self) -> Result<Client, Error> {
        let token = self.token.as_ref().map(Token::expose);
        let client = Client::connect_with_tls(&self.urls, token, self.tls.clone()).await?;
        let options =
            Options { call_timeout: TIMEOUT, outage_timeout: TIMEOUT, ..Options::default() };
        Ok(client.with_options(options))
    }
}

/// A connection to the coordinators, which is made when it is first needed.
#[derive(Debug)]
pub(crate) struct Line {
    coordinators: Coordinators,
    client: Option<Client>,
}

impl Line {
    pub(crate) fn new(coordinators: Coordinators) -> Self {
        Self { coordinators, client: None }
    }

    /// Returns the client, which finds another coordinator by itself if one is lost.
    pub(crate) async fn client(&mut self) -> Result<&Client, Error> {
        Ok(match &mut self.client {
            Some(client) => client,
            none => none.insert(self.coordinators.connect().await?),
        })
    }
}

/// An answer of the coordinators.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    at: Instant,
    pools: BTreeMap<String, Pool>,
}

/// The latest answer of the coordinators.
#[derive(Clone, Debug)]
pub(crate) struct Demand(watch::Receiver<Option<Arc<Answer>>>);

/// Creates a pair of which one tells the other what the coordinators answer.
pub(crate) fn channel() -> (watch::Sender<Option<Arc<Answer>>>, Demand) {
    let (tx, rx) = watch::channel(None);
    (tx, Demand(rx))
}

impl Demand {
    /// Returns a pool.
    ///
    /// # Errors
    ///
    /// `UNAVAILABLE` if the coordinators have not answered lately: KEDA then leaves the workers as they
    /// are, which it would not if it got a zero. `NOT_FOUND` if there is no such pool.
    pub(crate) fn pool(&self, name: &str) -> Result<Pool, Status> {
        let answer = self.0.borrow().clone();
        let current = answer.filter(|answer| answer.at.elapsed() < ANSWER_AGE_MAX);
        let answer = current.ok_or_else(|| {
            Status::unavailable("the coordinators do not tell how many workers they need")
        })?;
        answer.pools.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = answer.pools.keys().map(String::as_str).collect();
            Status::not_found(format!(
                "the coordinators have no pool `{name}`; there are: {}",
                known.join(", ")
            ))
        })
    }

    /// Returns all pools, or none if the coordinators have not answered lately.
    pub(crate) fn pools(&self) -> Vec<Pool> {
        let answer = self.0.borrow().clone();
        let current = answer.filter(|answer| answer.at.elapsed() < ANSWER_AGE_MAX);
        current.map(|answer| answer.pools.values().cloned().collect()).unwrap_or_default()
    }

    /// Waits for the next answer. Returns false if there will be none.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Asks the coordinators again and again.
pub(crate) async fn ask(
    coordinators: Coordinators,
    answers: watch::Sender<Option<Arc<Answer>>>,
    readiness: Readiness,
) {
    let mut line = Line::new(coordinators);
    let mut is_answered = true;
    loop {
        match ask_once(&mut line).await {
            Ok(pools) => {
                if !is_answered {
                    info!("the coordinators answer again");
                }
                is_answered = true;
                readiness.set("coordinator", Ok(()));
                answers.send_replace(Some(Arc::new(answer(pools))));
            }
            Err(error) => {
                if is_answered {
                    warn!(%error, "the coordinators do not answer");
                }
                is_answered = false;
                readiness.set("coordinator", Err(error.to_string()));
            }
        }
        sleep(ASK_EVERY).await;
    }
}

async fn ask_once(line: &mut Line) -> Result<Vec<Pool>, Error> {
    line.client().await?.list_pools().await
}

fn answer(pools: Vec<Pool>) -> Answer {
    let pools = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
    Answer { at: Instant::now(), pools }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pool(name: &str, wanted: u32) -> Pool {
        Pool {
            name: name.into(),
            workers: 0,
            workers_busy: 0,
            workers_wanted: wanted,
            workers_max: None,
            leases: 0,
            tasks_waiting: 0,
        }
    }

    pub(crate) fn tell(answers: &watch::Sender<Option<Arc<Answer>>>, pools: Vec<Pool>) {
        answers.send_replace(Some(Arc::new(answer(pools))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_a_while_and_then_nothing_is_said() {
        let (answers, demand) = channel();
        assert_eq!(demand.pool("a").unwrap_err().code(), tonic::Code::Unavailable);
        tell(&answers, vec![pool("a", 3)]);
        assert_eq!(demand.pool("a").unwrap().workers_wanted, 3);
        let error = demand.pool("b").unwrap_err();
        assert_eq!(error.code(), tonic::Code::NotFound);
        assert!(error.message().contains("`b`; there are: a"), "{error}");
        tokio::time::advance(ANSWER_AGE_MAX).await;
        assert_eq!(demand.pool("a").unwrap_err().code(), tonic::Code::Unavailable);
        assert!(demand.pools().is_empty());
    }
}
