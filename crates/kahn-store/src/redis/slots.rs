//! The slots of Redis Cluster, and which server each of them belongs to.

use std::collections::BTreeMap;

use ::redis::Value;

use crate::redis::address::Endpoint;

/// The number of slots in every Redis Cluster.
pub(super) const SLOTS: u16 = 16384;

/// Returns the slot of a key: that of its hash tag, if it has one.
pub(super) fn slot_of(key: &str) -> u16 {
    crc16(hash_tag(key).as_bytes()) % SLOTS
}

/// Returns the part of a key between the first `{` and the next `}`, or the whole key if there is
/// none or it is empty.
fn hash_tag(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// CRC-16/XMODEM, as Redis Cluster uses it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

/// The servers of all slots. A server without a cluster is that of every slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// The last slot and the server of each range, by the first slot.
    ranges: BTreeMap<u16, (u16, Endpoint)>,
    /// Single slots whose server was learnt later.
    moved: BTreeMap<u16, Endpoint>,
}

impl SlotMap {
    /// Returns a map in which one server has all slots.
    pub(super) fn of_one(server: Endpoint) -> Self {
        Self { ranges: BTreeMap::from([(0, (SLOTS - 1, server))]), moved: BTreeMap::new() }
    }

    /// Parses the reply of `CLUSTER SLOTS` that the node `asked` has given.
    pub(super) fn parse(reply: &Value, asked: &Endpoint) -> Option<Self> {
        let Value::Array(rows) = reply else { return None };
        let ranges = rows.iter().map(|row| parse_range(row, asked)).collect::<Option<_>>()?;
        Some(Self { ranges, moved: BTreeMap::new() })
    }

    /// Returns the server of a slot.
    pub(super) fn server(&self, slot: u16) -> Option<&Endpoint> {
        self.moved.get(&slot).or_else(|| {
            let (_, (last, server)) = self.ranges.range(..=slot).next_back()?;
            (slot <= *last).then_some(server)
        })
    }

    /// Sets the server of one slot.
    pub(super) fn assign(&mut self, slot: u16, server: Endpoint) {
        self.moved.insert(slot, server);
    }

    /// Returns all servers, without duplicates.
    pub(super) fn servers(&self) -> Vec<&Endpoint> {
        let ranges = self.ranges.values().map(|(_, server)| server);
        let mut servers: Vec<_> = ranges.chain(self.moved.values()).collect();
        servers.sort_unstable();
        servers.dedup();
        servers
    }
}

/// Parses the first slot, the last slot, and the address and port of the master.
fn parse_range(row: &Value, asked: &Endpoint) -> Option<(u16, (u16, Endpoint))> {
    let Value::Array(row) = row else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = row.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host.as_str(),
        Value::Nil => "",
        _ => return None,
    };
    let server = named(host, u16::try_from(*port).ok()?, asked)?;
    Some((first, (last, server)))
}

/// Parses the address in a redirection that the node `asked` has given: `host:port`.
pub(super) fn redirected(address: &str, asked: &Endpoint) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    named(host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?, asked)
}

/// Returns an endpoint of the cluster. A node that does not know its own host leaves it empty, and
/// means the one over which it was asked.
fn named(host: &str, port: u16, asked: &Endpoint) -> Option<Endpoint> {
    if !matches!(host, "" | "?") {
        return Some(Endpoint::Tcp { host: host.to_owned(), port });
    }
    match asked {
        Endpoint::Tcp { host, .. } => Some(Endpoint::Tcp { host: host.clone(), port }),
        Endpoint::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master.clone(), master])
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // The check value of CRC-16/XMODEM, and slots that `CLUSTER KEYSLOT` has returned.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("{foo}.bar"), 12182);
        assert_eq!(slot_of("a{}b"), crc16(b"a{}b") % SLOTS);
        assert_eq!(slot_of("kahn:{p007}:m"), slot_of("kahn:{p007}:blob:}{"));
    }

    #[test]
    fn each_slot_has_the_server_of_its_range_until_it_moves() {
        let asked = tcp("seed", 1);
        let reply = Value::Array(vec![
            range(0, 99, text("a"), 1),
            range(100, 199, Value::Nil, 2),
            range(300, 16383, text(""), 3),
        ]);
        let mut map = SlotMap::parse(&reply, &asked).unwrap();
        assert_eq!(map.server(0), Some(&tcp("a", 1)));
        assert_eq!(map.server(99), Some(&tcp("a", 1)));
        assert_eq!(map.server(100), Some(&tcp("seed", 2)));
        assert_eq!(map.server(200), None);
        assert_eq!(map.server(16383), Some(&tcp("seed", 3)));
        map.assign(99, tcp("b", 4));
        assert_eq!((map.server(98), map.server(99)), (Some(&tcp("a", 1)), Some(&tcp("b", 4))));
        assert_eq!(map.servers().len(), 4);
    }

    #[test]
    fn a_reply_of_another_form_is_not_a_map() {
        let asked = tcp("seed", 1);
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 70_000, text("a"), 1)]),
            Value::Array(vec![range(0, 1, text("a"), -1)]),
        ] {
            assert_eq!(SlotMap::parse(&reply, &asked), None, "{reply:?}");
        }
    }

    #[test]
    fn redirections_may_omit_the_host() {
        let asked = tcp("seed", 1);
        assert_eq!(redirected("10.0.0.1:7000", &asked), Some(tcp("10.0.0.1", 7000)));
        assert_eq!(redirected(":7000", &asked), Some(tcp("seed", 7000)));
        assert_eq!(redirected("::1:7000", &asked), Some(tcp("::1", 7000)));
        assert_eq!(redirected("7000", &asked), None);
    }
}
