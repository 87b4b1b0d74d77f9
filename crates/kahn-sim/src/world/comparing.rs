//! Compares the memory of coordinators with what is safe in the logs.

use kahn_core::{ArchivedRun, Core, RunSnapshot};
use kahn_model::Partition;

use super::World;

impl World {
    pub(super) fn check_at_rest(&mut self) {
        self.oracle.at_rest();
        let Some(leader) = self.leader() else { return };
        self.check_shares(leader);
        for partition in 0..usize::from(self.settings.partitions) {
            self.compare_with_ledger(leader, partition);
            let n_entries = self.storage.partition(partition).entries().len();
            if n_entries != self.oracle.n_entries(partition) {
                self.oracle.object("I10", "the log differs from the safe entries");
            }
        }
        let findings = self.coordinators[leader].core().map(Core::audit);
        if let Some(finding) = findings.and_then(|findings| findings.into_iter().next()) {
            self.oracle.object("I13", finding);
        }
    }

    /// Checks that the memory of an idle coordinator matches its log.
    pub(super) fn compare_with_ledger(&mut self, leader: usize, partition: usize) {
        let Some(core) = self.coordinators[leader].core() else { return };
        let (memory, archived) = (partition_runs(core, partition), archived_runs(core, partition));
        self.compare(memory, archived, partition);
    }

    /// Checks that a state rebuilt from the log matches the log.
    pub(super) fn compare(
        &mut self,
        memory: Vec<RunSnapshot>,
        archived: Vec<ArchivedRun>,
        partition: usize,
    ) {
        let ledger = partition_runs(self.oracle.shadow(), partition);
        if archived != archived_runs(self.oracle.shadow(), partition) {
            self.oracle.object("I10", "memory and log contain different archived runs");
        }
        if memory.len() != ledger.len() {
            self.oracle.object("I10", "memory and log contain different runs");
        }
        for (ours, theirs) in memory.iter().zip(&ledger) {
            if ours != theirs {
                let message = difference(ours, theirs);
                self.oracle.object("I10", message);
            }
        }
    }
}

/// Returns the runs of a partition.
pub(super) fn partition_runs(core: &Core, partition: usize) -> Vec<RunSnapshot> {
    let at = Partition(u16::try_from(partition).expect("invariant: few partitions"));
    core.state().snapshot(at).runs.into_iter().map(with_ranks).collect()
}

/// Returns the archived runs of a partition.
pub(super) fn archived_runs(core: &Core, partition: usize) -> Vec<ArchivedRun> {
    let at = Partition(u16::try_from(partition).expect("invariant: few partitions"));
    core.state().snapshot(at).archived
}

/// Replaces the ages of ready tasks by their rank, because only the order is significant.
fn with_ranks(mut run: RunSnapshot) -> RunSnapshot {
    let mut ages: Vec<u32> = run.cells.iter().map(|cell| cell.age).filter(|age| *age > 0).collect();
    ages.sort_unstable();
    for cell in run.cells.iter_mut().filter(|cell| cell.age > 0) {
        let rank = ages.partition_point(|age| *age < cell.age);
        cell.age = u32::try_from(rank + 1).expect("invariant: few tasks");
    }
    run
}

/// Returns the first part in which two snapshots differ, for the report.
fn difference(ours: &RunSnapshot, theirs: &RunSnapshot) -> String {
    let run = ours.submission.run;
    let what = if ours.cells != theirs.cells {
        let at = ours.cells.iter().zip(&theirs.cells).position(|(a, b)| a != b).unwrap_or(0);
        format!("t{at}: {:?} and {:?}", ours.cells[at], theirs.cells[at])
    } else if ours.history != theirs.history {
        let at = ours.history.iter().zip(&theirs.history).position(|(a, b)| a != b);
        let pair = at.map(|at| (ours.history[at], theirs.history[at]));
        format!("histories of {} and {}: {pair:?}", ours.history.len(), theirs.history.len())
    } else if ours.leases != theirs.leases {
        format!("leases {:?} and {:?}", ours.leases, theirs.leases)
    } else {
        format!("{ours:?} and {theirs:?}")
    };
    format!("run {run}: memory and log differ: {what}")
}
