//! The address of the master, as sentinels know it.

use std::time::Duration;

use ::redis::{Pipeline, Value};
use tokio::time::{Instant, timeout_at};

use super::ask::{Answers, ask};
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
}

/// What one sentinel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// Grows with each failover.
    epoch: u64,
    master: Endpoint,
}

impl Sentinels {
    /// Asks all sentinels. One that is cut off from the others may still name the former master, so
    /// the answer from after the last failover counts.
    pub(super) async fn master(&self) -> Result<Endpoint, StoreError> {
        let mut answers = Answers::of(&self.dialer, &self.nodes, &self.question());
        let (mut newest, mut problems) = (None::<Known>, Vec::new());
        let mut until = None;
        loop {
            let answer = match until {
                None => answers.next().await,
                Some(until) => timeout_at(until, answers.next()).await.unwrap_or(None),
            };
            let Some((sentinel, answer)) = answer else { break };
            match answer.and_then(|answer| self.parse(answer, &sentinel)) {
                Ok(known) if newest.as_ref().is_none_or(|newest| newest.epoch < known.epoch) => {
                    newest = Some(known);
                }
                Ok(_) => {}
                Err(error) => problems.push(error.described()),
            }
            if newest.is_some() {
                until.get_or_insert_with(|| Instant::now() + OTHERS_WITHIN);
            }
        }
        problems.sort_unstable();
        newest.map(|known| known.master).ok_or_else(|| StoreError::NoMaster {
            wanted: format!("{:?}", self.master),
            problems: problems.join("; "),
        })
    }

    /// Asks one sentinel, given by any number.
    pub(super) async fn master_according_to(&self, n: usize) -> Option<Endpoint> {
        let sentinel = self.nodes.get(n % self.nodes.len())?;
        let answer = ask(&self.dialer, sentinel, &self.question()).await.ok()?;
        self.parse(answer, sentinel).ok().map(|known| known.master)
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

/// Returns the epoch in the answer to `SENTINEL MASTER`, or 0 if the user may not ask for it.
fn epoch(fields: &Value) -> u64 {
    let fields: Vec<String> = ::redis::from_redis_value(fields.clone()).unwrap_or_default();
    let mut pairs = fields.chunks_exact(2).filter(|pair| pair[0] == "config-epoch");
    pairs.next().and_then(|pair| pair[1].parse().ok()).unwrap_or(0)
}
