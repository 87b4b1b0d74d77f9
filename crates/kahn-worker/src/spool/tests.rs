//! Tests what a spool recovers after a restart.

use kahn_model::{RunId, TaskIx};
use proptest::prelude::*;

use super::*;

fn attempt(n: u32) -> AttemptId {
    let run = RunId::from_slice(&[7; 16]).unwrap();
    AttemptId { run, task: TaskIx(n), number: 1 }
}

fn pending(spool: &Spool) -> BTreeMap<AttemptId, Bytes> {
    spool.pending().map(|(attempt, result)| (attempt, result.clone())).collect()
}

fn file_len(dir: &Path) -> u64 {
    std::fs::metadata(dir.join(FILE_NAME)).unwrap().len()
}

#[test]
fn results_wait_over_a_restart_until_they_are_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for durability in [Durability::Process, Durability::Disk] {
        let mut spool = Spool::open(dir.path(), durability).unwrap();
        spool.put(attempt(1), "one".into());
        spool.put(attempt(2), "two".into());
        spool.put(attempt(2), "second".into());
        spool.ack(attempt(1));
        spool.ack(attempt(3));
        spool.flush().unwrap();
        assert!(!spool.is_dirty());

        let mut spool = Spool::open(dir.path(), durability).unwrap();
        assert_eq!(pending(&spool), BTreeMap::from([(attempt(2), "second".into())]));
        assert_eq!(spool.get(attempt(2)), Some(&"second".into()));
        spool.ack(attempt(2));
        spool.flush().unwrap();
        assert_eq!(Spool::open(dir.path(), durability).unwrap().pending().len(), 0);
    }
}

#[test]
fn the_file_stays_small_while_results_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), Durability::Process).unwrap();
    spool.put(attempt(0), "stays".into());
    for n in 1..5_000 {
        spool.put(attempt(n), vec![1; 1_000].into());
        spool.ack(attempt(n));
        spool.flush().unwrap();
        assert!(file_len(dir.path()) <= DEAD_BYTES_MAX + 4_096);
    }
    drop(spool);
    let mut spool = Spool::open(dir.path(), Durability::Process).unwrap();
    assert_eq!(pending(&spool), BTreeMap::from([(attempt(0), "stays".into())]));
    spool.ack(attempt(0));
    spool.put(attempt(1), vec![1; 70_000].into());
    spool.ack(attempt(1));
    spool.flush().unwrap();
    assert_eq!(file_len(dir.path()), 0);
}

#[test]
fn a_flipped_bit_ends_the_file_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), Durability::Process).unwrap();
    for n in 0..3 {
        spool.put(attempt(n), "result".into());
    }
    spool.flush().unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    let third = bytes.len() / 3;
    bytes[third + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let spool = Spool::open(dir.path(), Durability::Process).unwrap();
    assert_eq!(spool.pending().map(|(attempt, _)| attempt).collect::<Vec<_>>(), [attempt(0)]);
}

#[derive(Clone, Debug)]
enum Change {
    Put(u32, Vec<u8>),
    Ack(u32),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..6u32, proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(n, v)| Change::Put(n, v)),
        (0..6u32).prop_map(Change::Ack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn wherever_the_file_is_cut_the_intact_prefix_is_recovered(
        changes in proptest::collection::vec(change(), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), Durability::Process).unwrap();
        // The pending results after each record, with the length of the file at that point.
        let mut history = vec![(0, BTreeMap::new())];
        for change in changes {
            match change {
                Change::Put(n, result) => spool.put(attempt(n), result.into()),
                Change::Ack(n) => spool.ack(attempt(n)),
            }
            spool.flush().unwrap();
            history.push((file_len(dir.path()), pending(&spool)));
        }
        let path = dir.path().join(FILE_NAME);
        let bytes = std::fs::read(&path).unwrap();
        let n_kept = cut.index(bytes.len() + 1);
        std::fs::write(&path, &bytes[..n_kept]).unwrap();

        let n_kept = u64::try_from(n_kept).unwrap();
        let (_, expected) = history.iter().rfind(|(len, _)| *len <= n_kept).unwrap();
        let recovered = Spool::open(dir.path(), Durability::Process).unwrap();
        prop_assert_eq!(&pending(&recovered), expected);
        // Opening repairs the file, so that later records are not appended after the cut.
        let mut mended = recovered;
        mended.put(attempt(99), "next".into());
        mended.flush().unwrap();
        let reopened = Spool::open(dir.path(), Durability::Process).unwrap();
        prop_assert!(reopened.get(attempt(99)).is_some());
    }
}
