//! The slots of a Redis Cluster, as its nodes know them.

use ::redis::Value;

use super::ask::Answers;
use crate::error::StoreError;
use crate::redis::address::Endpoint;
use crate::redis::dial::Dialer;
use crate::redis::slots::SlotMap;

/// Asks the nodes. The first answer is used, except that a node which does not serve requests, for
/// example because it is cut off from the others, is believed only if there is no other.
pub(super) async fn slots(dialer: &Dialer, nodes: Vec<Endpoint>) -> Result<SlotMap, StoreError> {
    let mut commands = ::redis::pipe();
    commands.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let mut answers = Answers::of(dialer, &nodes, &commands);
    let (mut fallback, mut problems) = (None, Vec::new());
    while let Some((node, answer)) = answers.next().await {
        match answer.and_then(|answer| parse(answer, &node)) {
            Ok((map, true)) => return Ok(map),
            Ok((map, false)) => fallback = Some(map),
            Err(error) => problems.push(error.described()),
        }
    }
    problems.sort_unstable();
    let problems = problems.join("; ");
    fallback.ok_or_else(|| StoreError::NoMaster { wanted: "the cluster".to_owned(), problems })
}

/// Returns the map, and whether the node serves requests.
fn parse(answer: Vec<Value>, node: &Endpoint) -> Result<(SlotMap, bool), StoreError> {
    let failed = |error| StoreError::Connect { server: node.to_string(), hint: "", source: error };
    let [info, slots] = <[Value; 2]>::try_from(answer)
        .map_err(|answer| StoreError::Damaged(format!("redis at {node} answered {answer:?}")))?;
    let slots = slots.extract_error().map_err(|error| failed(Box::new(error)))?;
    let map = SlotMap::parse(&slots, node)
        .ok_or_else(|| StoreError::Damaged(format!("redis at {node} answered {slots:?}")))?;
    let is_serving = match info {
        Value::BulkString(text) => String::from_utf8_lossy(&text).contains("cluster_state:ok"),
        Value::VerbatimString { text, .. } => text.contains("cluster_state:ok"),
        _ => false,
    };
    Ok((map, is_serving))
}
