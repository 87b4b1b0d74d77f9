//! The tables of the embedded store and the operations on them inside a transaction.

mod cluster;

use bytes::Bytes;
use kahn_core::log::{Append, Hash, Head, Reply, Term};
use kahn_model::Partition;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::error::StoreError;
use crate::local::LogState;
use crate::store::Batch;

pub(super) use cluster::{begin_import, complete_import, create};

/// Epoch, nonce, sequence number, hash.
type StateRow = (u64, u64, u64, [u8; 16]);
const STATE: TableDefinition<'_, u16, StateRow> = TableDefinition::new("state");

/// Maps partition and sequence number to 16 bytes of hash followed by the payload.
const LOG: TableDefinition<'_, (u16, u64), &[u8]> = TableDefinition::new("log");

const BLOBS: TableDefinition<'_, (u16, &str), &[u8]> = TableDefinition::new("blobs");

/// Sequence number, hash, manifest.
type CheckpointRow = (u64, [u8; 16], &'static [u8]);
const CHECKPOINTS: TableDefinition<'_, u16, CheckpointRow> = TableDefinition::new("checkpoints");

/// A source of reads: a snapshot or a write transaction.
pub(super) trait View {
    fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, TableError>;
}

impl View for ReadTransaction {
    fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, TableError> {
        self.open_table(table)
    }
}

impl View for WriteTransaction {
    fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, TableError> {
        self.open_table(table)
    }
}

pub(super) fn state(view: &impl View, partition: Partition) -> Result<LogState, StoreError> {
    let table = view.open(STATE).map_err(StoreError::embedded)?;
    let row = table.get(partition.0).map_err(StoreError::embedded)?;
    Ok(row.map_or_else(LogState::default, |row| {
        let (epoch, nonce, seq, hash) = row.value();
        let head = Head { seq, hash: Hash(hash) };
        LogState { term: Some(Term { epoch, nonce }), head }
    }))
}

pub(super) fn set_state(
    tx: &WriteTransaction,
    partition: Partition,
    state: &LogState,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(STATE).map_err(StoreError::embedded)?;
    let term = state.term.unwrap_or(Term { epoch: 0, nonce: 0 });
    let row = (term.epoch, term.nonce, state.head.seq, state.head.hash.0);
    table.insert(partition.0, row).map_err(StoreError::embedded)?;
    Ok(())
}

pub(super) fn append(
    tx: &WriteTransaction,
    partition: Partition,
    term: Term,
    append: &Append<Batch>,
) -> Result<Reply, StoreError> {
    let mut state = state(tx, partition)?;
    let reply = state.judge(term, append);
    if reply != Reply::Applied {
        return Ok(reply);
    }
    for (name, bytes) in &append.payload.blobs {
        put_blob(tx, partition, name, bytes)?;
    }
    put_entry(tx, partition, append.next, &append.payload.payload)?;
    state.head = append.next;
    set_state(tx, partition, &state)?;
    Ok(reply)
}

pub(super) fn put_entry(
    tx: &WriteTransaction,
    partition: Partition,
    head: Head,
    payload: &[u8],
) -> Result<(), StoreError> {
    let mut log = tx.open_table(LOG).map_err(StoreError::embedded)?;
    let size = head.hash.0.len() + payload.len();
    let mut row =
        log.insert_reserve((partition.0, head.seq), size).map_err(StoreError::embedded)?;
    let (hash, rest) = row.as_mut().split_at_mut(head.hash.0.len());
    hash.copy_from_slice(&head.hash.0);
    rest.copy_from_slice(payload);
    Ok(())
}

fn split_entry(seq: u64, row: &[u8]) -> Result<(Head, &[u8]), StoreError> {
    let (hash, payload) = row
        .split_first_chunk::<16>()
        .ok_or_else(|| StoreError::Damaged(format!("entry {seq} is shorter than its hash")))?;
    Ok((Head { seq, hash: Hash(*hash) }, payload))
}

pub(super) fn page(
    view: &impl View,
    partition: Partition,
    after_seq: u64,
    bytes_max: usize,
) -> Result<Vec<(Head, Bytes)>, StoreError> {
    let log = view.open(LOG).map_err(StoreError::embedded)?;
    let from = (partition.0, after_seq.saturating_add(1));
    let rows = log.range(from..=(partition.0, u64::MAX)).map_err(StoreError::embedded)?;
    let mut page = Vec::new();
    let mut taken = 0;
    for row in rows {
        let (key, value) = row.map_err(StoreError::embedded)?;
        let (head, payload) = split_entry(key.value().1, value.value())?;
        taken += payload.len();
        if !page.is_empty() && bytes_max < taken {
            break;
        }
        page.push((head, Bytes::copy_from_slice(payload)));
    }
    Ok(page)
}

pub(super) fn put_blob(
    tx: &WriteTransaction,
    partition: Partition,
    name: &str,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let mut blobs = tx.open_table(BLOBS).map_err(StoreError::embedded)?;
    blobs.insert((partition.0, name), bytes).map_err(StoreError::embedded)?;
    Ok(())
}

pub(super) fn blob(
    view: &impl View,
    partition: Partition,
    name: &str,
) -> Result<Option<Bytes>, StoreError> {
    let blobs = view.open(BLOBS).map_err(StoreError::embedded)?;
    let row = blobs.get((partition.0, name)).map_err(StoreError::embedded)?;
    Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
}

pub(super) fn delete_blobs(
    tx: &WriteTransaction,
    partition: Partition,
    names: &[String],
) -> Result<(), StoreError> {
    let mut blobs = tx.open_table(BLOBS).map_err(StoreError::embedded)?;
    for name in names {
        blobs.remove((partition.0, name.as_str())).map_err(StoreError::embedded)?;
    }
    Ok(())
}

pub(super) fn blob_names(
    view: &impl View,
    partition: Partition,
    prefix: &str,
) -> Result<Vec<String>, StoreError> {
    let blobs = view.open(BLOBS).map_err(StoreError::embedded)?;
    let rows = blobs.range((partition.0, prefix)..).map_err(StoreError::embedded)?;
    let mut names = Vec::new();
    for row in rows {
        let (key, _) = row.map_err(StoreError::embedded)?;
        let (of, name) = key.value();
        if of != partition.0 || !name.starts_with(prefix) {
            break;
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

pub(super) fn checkpoint(
    tx: &WriteTransaction,
    partition: Partition,
    seq: u64,
    manifest: &[u8],
) -> Result<(), StoreError> {
    let head = head_at(tx, partition, seq)?.ok_or(StoreError::NoEntry { partition, seq })?;
    set_checkpoint(tx, partition, head, manifest)?;
    let mut log = tx.open_table(LOG).map_err(StoreError::embedded)?;
    let covered = (partition.0, 0)..=(partition.0, seq);
    log.retain_in(covered, |_, _| false).map_err(StoreError::embedded)
}

pub(super) fn set_checkpoint(
    tx: &WriteTransaction,
    partition: Partition,
    head: Head,
    manifest: &[u8],
) -> Result<(), StoreError> {
    let mut table = tx.open_table(CHECKPOINTS).map_err(StoreError::embedded)?;
    let row = (head.seq, head.hash.0, manifest);
    table.insert(partition.0, row).map_err(StoreError::embedded)?;
    Ok(())
}

fn head_at(
    tx: &WriteTransaction,
    partition: Partition,
    seq: u64,
) -> Result<Option<Head>, StoreError> {
    let log = tx.open_table(LOG).map_err(StoreError::embedded)?;
    if let Some(row) = log.get((partition.0, seq)).map_err(StoreError::embedded)? {
        return split_entry(seq, row.value()).map(|(head, _)| Some(head));
    }
    let stands = load_checkpoint(tx, partition)?.map(|(head, _)| head);
    Ok(stands.filter(|head| head.seq == seq))
}

pub(super) fn load_checkpoint(
    view: &impl View,
    partition: Partition,
) -> Result<Option<(Head, Bytes)>, StoreError> {
    let table = view.open(CHECKPOINTS).map_err(StoreError::embedded)?;
    let row = table.get(partition.0).map_err(StoreError::embedded)?;
    Ok(row.map(|row| {
        let (seq, hash, manifest) = row.value();
        (Head { seq, hash: Hash(hash) }, Bytes::copy_from_slice(manifest))
    }))
}
