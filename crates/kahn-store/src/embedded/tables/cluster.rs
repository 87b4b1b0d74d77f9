//! The table with the cluster: whether there is one, and whether it is complete.

use redb::{Database, ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::{BLOBS, CHECKPOINTS, LOG, STATE};
use crate::error::StoreError;
use crate::store::{ClusterId, ClusterMeta};

/// The format version of all tables; any other version is refused.
const FORMAT: u16 = 1;

/// The format of a store that is being filled with a backup, and cannot be used yet.
const UNFINISHED: u16 = u16::MAX;

/// The only key of [`META`].
const CLUSTER: &str = "cluster";

/// Format, cluster id, number of partitions.
type MetaRow = (u16, u128, u16);
const META: TableDefinition<'_, &str, MetaRow> = TableDefinition::new("meta");

/// Creates all tables, and the cluster if there is none. Returns the existing cluster.
pub(in crate::embedded) fn create(
    database: &Database,
    wanted: ClusterMeta,
) -> Result<ClusterMeta, StoreError> {
    let tx = database.begin_write().map_err(StoreError::embedded)?;
    let found = create_in(&tx, wanted)?;
    tx.commit().map_err(StoreError::embedded)?;
    match found {
        (FORMAT, id, partitions) => Ok(ClusterMeta { id: ClusterId(id), partitions }),
        (UNFINISHED, id, _) => Err(StoreError::Unfinished(ClusterId(id))),
        (other, ..) => {
            Err(StoreError::Damaged(format!("format {other} is not known, only {FORMAT}")))
        }
    }
}

fn create_in(tx: &WriteTransaction, wanted: ClusterMeta) -> Result<MetaRow, StoreError> {
    open_all(tx)?;
    let mut meta = tx.open_table(META).map_err(StoreError::embedded)?;
    let found = cluster(&meta)?;
    let fresh = (FORMAT, wanted.id.0, wanted.partitions);
    if found.is_none() {
        meta.insert(CLUSTER, fresh).map_err(StoreError::embedded)?;
    }
    Ok(found.unwrap_or(fresh))
}

fn open_all(tx: &WriteTransaction) -> Result<(), StoreError> {
    tx.open_table(STATE).map_err(StoreError::embedded)?;
    tx.open_table(LOG).map_err(StoreError::embedded)?;
    tx.open_table(BLOBS).map_err(StoreError::embedded)?;
    tx.open_table(CHECKPOINTS).map_err(StoreError::embedded)?;
    Ok(())
}

fn cluster(meta: &Table<'_, &str, MetaRow>) -> Result<Option<MetaRow>, StoreError> {
    Ok(meta.get(CLUSTER).map_err(StoreError::embedded)?.map(|row| row.value()))
}

/// Makes the store one that is being filled. What an earlier attempt has left is removed.
pub(in crate::embedded) fn begin_import(
    tx: &WriteTransaction,
    wanted: ClusterMeta,
) -> Result<(), StoreError> {
    let mut meta = tx.open_table(META).map_err(StoreError::embedded)?;
    match cluster(&meta)? {
        None | Some((UNFINISHED, ..)) => {}
        Some((_, id, _)) => return Err(StoreError::Occupied(ClusterId(id))),
    }
    tx.delete_table(STATE).map_err(StoreError::embedded)?;
    tx.delete_table(LOG).map_err(StoreError::embedded)?;
    tx.delete_table(BLOBS).map_err(StoreError::embedded)?;
    tx.delete_table(CHECKPOINTS).map_err(StoreError::embedded)?;
    open_all(tx)?;
    let row = (UNFINISHED, wanted.id.0, wanted.partitions);
    meta.insert(CLUSTER, row).map_err(StoreError::embedded)?;
    Ok(())
}

/// Makes the store one that can be used.
pub(in crate::embedded) fn complete_import(
    tx: &WriteTransaction,
    wanted: ClusterMeta,
) -> Result<(), StoreError> {
    let mut meta = tx.open_table(META).map_err(StoreError::embedded)?;
    let row = (FORMAT, wanted.id.0, wanted.partitions);
    meta.insert(CLUSTER, row).map_err(StoreError::embedded)?;
    Ok(())
}
