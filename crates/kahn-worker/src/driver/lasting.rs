//! Keeps the leases of attempts that outlive the worker's process, so that another start of the
//! worker can continue with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use bytes::Bytes;
use kahn_model::{ActionKind, AttemptId, OnDisconnect, Token};
use kahn_worker_core::Lease;
use prost::Message as _;
use tracing::warn;

use crate::spool::{Durability, Spool};
use crate::wire::{self, Assignments, Task};

/// The leases of attempts that outlive the worker's process.
#[derive(Debug)]
pub(crate) struct Lasting {
    spool: Spool,
    /// The kinds of actions whose attempts do.
    kinds: BTreeSet<ActionKind>,
    kept: BTreeMap<Token, AttemptId>,
    /// The leases that a previous process has left.
    left: Vec<Lease<Task>>,
}

impl Lasting {
    /// Opens the file with the leases in `dir`.
    ///
    /// # Errors
    ///
    /// Fails if the directory or the file cannot be created, read or rewritten.
    pub(crate) fn open(dir: &Path, kinds: BTreeSet<ActionKind>) -> io::Result<Self> {
        let spool = Spool::open(dir, Durability::Process)?;
        let left = left_behind(&spool);
        let kept = left.iter().map(|lease| (lease.token, lease.attempt)).collect();
        Ok(Self { spool, kinds, kept, left })
    }

    /// Returns whether a previous process has left this lease.
    pub(crate) fn has(&self, attempt: AttemptId, token: Token) -> bool {
        self.kept.get(&token) == Some(&attempt)
    }

    /// Takes the leases that a previous process has left.
    pub(super) fn take_left(&mut self) -> Vec<Lease<Task>> {
        std::mem::take(&mut self.left)
    }

    /// Keeps the lease of an attempt that is about to start, if the attempt outlives the process and
    /// may run without it.
    pub(super) fn keep(&mut self, lease: &Lease<Task>) {
        let kind = lease.payload.work.action.kind();
        if !self.kinds.contains(&kind) || lease.on_disconnect == OnDisconnect::Stop {
            return;
        }
        let bytes = Bytes::from(wire::lease_to_wire(lease).encode_to_vec());
        self.spool.put(lease.attempt, bytes);
        self.kept.insert(lease.token, lease.attempt);
        self.flush();
    }

    /// Returns whether the lease with this token is kept.
    pub(super) fn keeps(&self, token: Token) -> bool {
        self.kept.contains_key(&token)
    }

    /// Forgets the lease of an attempt that has ended, and whose report is kept.
    pub(super) fn forget(&mut self, token: Token) {
        if let Some(attempt) = self.kept.remove(&token) {
            self.spool.ack(attempt);
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.spool.flush() {
            warn!(%error, "leases not written; a crash now would cost another attempt");
        }
    }
}

fn left_behind(spool: &Spool) -> Vec<Lease<Task>> {
    let mut assignments = Assignments::default();
    let mut leases = Vec::new();
    for (attempt, bytes) in spool.pending() {
        let lease = kahn_proto::worker::Lease::decode(bytes.clone())
            .map_err(wire::Unreadable::from)
            .and_then(|lease| assignments.lease(lease));
        match lease {
            Ok(lease) => leases.push(lease),
            Err(error) => warn!(run = %attempt.run, %error, "a kept lease cannot be read"),
        }
    }
    leases
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kahn_model::{
        Action, Container, Pod, PodOptions, Resources, RunId, TaskIx, Text, Timeouts, Uuid, Work,
    };

    use super::*;

    fn lease(serial: u64, on_disconnect: OnDisconnect) -> Lease<Task> {
        let container = Container { image: Text::new("image"), ..Container::default() };
        let pod = Pod { container, options: PodOptions::default() };
        let task = TaskIx(u32::try_from(serial).unwrap());
        Lease {
            attempt: AttemptId { run: RunId::new(Uuid::from_u128(1)), task, number: 2 },
            token: Token { epoch: 1, serial, nonce: 3 },
            resources: Arc::new(Resources::cpu_milli(500)),
            on_disconnect,
            payload: Task {
                namespace: Some("team".parse().unwrap()),
                name: "task".into(),
                work: Arc::new(Work::new(Action::Pod(Box::new(pod)))),
                timeouts: Timeouts {
                    run: Some(std::time::Duration::from_secs(9)),
                    ..Timeouts::default()
                },
            },
        }
    }

    #[test]
    fn another_start_has_the_leases_of_attempts_that_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Lasting::open(dir.path(), [ActionKind::Kubernetes].into()).unwrap();
        let mut first = open();
        let [one, two, three] = [
            lease(1, OnDisconnect::Keep),
            lease(2, OnDisconnect::Keep),
            lease(3, OnDisconnect::Stop),
        ];
        for lease in [&one, &two, &three] {
            first.keep(lease);
        }
        first.forget(one.token);
        drop(first);

        let mut second = open();
        assert!(second.has(two.attempt, two.token));
        assert!(!second.has(one.attempt, one.token));
        let left = second.take_left();
        assert_eq!(left.len(), 1);
        let shown = |lease: &Lease<Task>| format!("{lease:?}");
        assert_eq!(shown(&left[0]), shown(&two));
        second.forget(two.token);
        assert!(open().take_left().is_empty());
    }
}
