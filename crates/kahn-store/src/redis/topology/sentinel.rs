//! The address of the master, as sentinels know it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{Pipeline, Value};
use tokio::time::{Instant, timeout_at};

use super::ask::Answers;
use crate::error::StoreError;
use crate::redis::address::Endpoint;
use crate::redis::dial::Dialer;

/// How long to wait for other answers after the first one.
const OTHERS_WITHIN: Duration = Duration::from_millis(100);

/// The sentinels of one master.
#[derive(Debug)]
pub(in crate::redis) struct Sentinels {
    pub(in crate::redis) master: String,
    pub(in crate::redis) nodes: Vec<Endpoint>,
    pub(in crate::redis) dialer: Dialer,
    /// The highest epoch that a sentinel has told.
    epoch: AtomicU64,
}

/// What one sentinel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// Grows with each failover.
    epoch: u64,
    master: Endpoint,
}

impl Sentinels {
    pub(in crate::redis) fn new(master: String, nodes: Vec<Endpoint>, dialer: Dialer) -> Self {
        Self { master, nodes, dialer, epoch: AtomicU64::new(0) }
    }

    /// Asks all sentinels. One that is cut off from the others may still name the former master, so
    /// the answer from after the last failover counts.
    pub(super) async fn master(&self) -> Result<Endpoint, StoreError> {
        let mut answers = Answers::of(&self.dialer, &self.nodes, &self.question());
        let (mut known, mut problems) = (Vec::new(), Vec::new());
        let mut until = None;
        loop {
            let answer = match until {
                None => answers.next().await,
                Some(until) => timeout_at(until, answers.next()).await.unwrap_or(None),
            };
            let Some((sentinel, answer)) = answer else { break };
            match answer.and_then(|answer| self.parse(answer, &sentinel)) {
                Ok(one) => known.push(one),
                Err(error) => problems.push(error.described()),
            }
            if !known.is_empty() {
                until.get_or_insert_with(|| Instant::now() + OTHERS_WITHIN);
            }
        }
        let highest = self.epoch.load(Ordering::SeqCst);
        match choose(&known, highest, self.nodes.len()) {
            Some(chosen) => {
                if chosen.epoch < highest {
                    self.epoch.store(chosen.epoch, Ordering::SeqCst);
                }
                self.epoch.fetch_max(chosen.epoch, Ordering::SeqCst);
                return Ok(chosen.master.clone());
            }
            None if known.is_empty() => {}
            None => problems.push(format!(
                "only sentinels answer that do not know of the failover with epoch {highest}"
            )),
        }
        problems.sort_unstable();
        let wanted = format!("{:?}", self.master);
        Err(StoreError::NoMaster { wanted, problems: problems.join("; ") })
    }

    /// The address is that of `GET-MASTER-ADDR-BY-NAME`, which changes as soon as a replica has been
    /// promoted. `SENTINEL MASTER` names it only after all other replicas follow it, but it has the
    /// epoch.
    fn question(&self) -> Pipeline {
        let mut question = ::redis::pipe();
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        question.cmd("SENTINEL").arg("MASTER").arg(&self.master);
        question
    }

    fn parse(&self, answer: Vec<Value>, sentinel: &Endpoint) -> Result<Known, StoreError> {
        let unknown = || StoreError::NoMaster {
            wanted: format!("{:?}", self.master),
            problems: format!("sentinel {sentinel} does not monitor a master of this name"),
        };
        let mut answer = answer.into_iter();
        let address = answer.next().unwrap_or(Value::Nil).extract_error();
        let address = address.map_err(|error| self.dialer.failed(sentinel, error))?;
        let address: Option<(String, u16)> = ::redis::from_redis_value(address).ok().flatten();
        let (host, port) = address.ok_or_else(unknown)?;
        let epoch = answer.next().map_or(0, |fields| epoch(&fields));
        Ok(Known { epoch, master: Endpoint::Tcp { host, port } })
    }
}

/// Returns the answer from after the last failover, unless it is older than the epoch `highest`,
/// which was told before. A majority of all sentinels is believed in any case: an operator may have
/// configured them anew.
fn choose(known: &[Known], highest: u64, n_sentinels: usize) -> Option<&Known> {
    let newest = known.iter().rev().max_by_key(|one| one.epoch)?;
    let n_agreeing = known.iter().filter(|one| *one == newest).count();
    (highest <= newest.epoch || n_sentinels < 2 * n_agreeing).then_some(newest)
}

/// Returns the epoch in the answer to `SENTINEL MASTER`, or 0 if the user may not ask for it.
fn epoch(fields: &Value) -> u64 {
    let fields: Vec<String> = ::redis::from_redis_value(fields.clone()).unwrap_or_default();
    let mut pairs = fields.chunks_exact(2).filter(|pair| pair[0] == "config-epoch");
    pairs.next().and_then(|pair| pair[1].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(epoch: u64, port: u16) -> Known {
        Known { epoch, master: Endpoint::Tcp { host: "host".to_owned(), port } }
    }

    #[test]
    fn the_answer_from_after_the_last_failover_counts() {
        let answers = [known(3, 1), known(4, 2), known(3, 1)];
        assert_eq!(choose(&answers, 0, 3), Some(&known(4, 2)));
        // They do not tell an epoch: the first answer counts.
        assert_eq!(choose(&[known(0, 1), known(0, 2)], 0, 3), Some(&known(0, 1)));
        assert_eq!(choose(&[], 0, 3), None);
    }

    #[test]
    fn a_failover_that_was_heard_of_is_forgotten_only_by_a_majority() {
        assert_eq!(choose(&[known(3, 1)], 4, 3), None);
        assert_eq!(choose(&[known(3, 1), known(3, 2)], 4, 3), None);
        assert_eq!(choose(&[known(0, 1), known(0, 1)], 4, 3), Some(&known(0, 1)));
        assert_eq!(choose(&[known(0, 1)], 4, 1), Some(&known(0, 1)));
    }
}
