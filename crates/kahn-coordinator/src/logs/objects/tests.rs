//! Tests of the division into objects, with generated histories of several coordinators.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::chunks::{Next, next};
use super::*;

fn token(serial: u64) -> Token {
    Token { epoch: 1, serial, nonce: 9 }
}

fn part(start: u64, end: u64) -> Object {
    Object { token: token(1), start, end, is_end: false }
}

fn last(start: u64, end: u64) -> Object {
    Object { is_end: true, ..part(start, end) }
}

fn extent(objects: &[Object]) -> (u64, bool) {
    let Extent { len, is_sealed } = StoredLog::of(objects.iter().copied()).extent;
    (len, is_sealed)
}

#[test]
fn a_name_has_everything_about_an_object_and_other_names_are_ignored() {
    for object in [part(0, 5), last(0, 0), part(7, u64::MAX)] {
        assert_eq!(Object::parse(&object.name()), Some(object));
    }
    assert_eq!(part(0, 5).name(), "1.1.9.00000000000000000000-00000000000000000005");
    for name in ["", "1.1.9", "1.1.9.5-1", "1.1.9.1-5.begin", "1.1.9.1-5.end.end", "a.1.9.1-5"] {
        assert_eq!(Object::parse(name), None, "{name}");
    }
}

#[test]
fn only_what_has_no_gap_before_it_is_stored() {
    assert_eq!(extent(&[]), (0, false));
    assert_eq!(extent(&[part(0, 5), part(5, 9)]), (9, false));
    assert_eq!(extent(&[part(0, 5), part(6, 9)]), (5, false));
    assert_eq!(extent(&[part(1, 5)]), (0, false));
    assert_eq!(extent(&[part(0, 5), part(3, 9), part(0, 2)]), (9, false));
    assert_eq!(extent(&[part(0, 5), last(5, 9)]), (9, true));
    assert_eq!(extent(&[last(5, 9)]), (0, false));
    assert_eq!(extent(&[last(0, 0)]), (0, true));
}

#[test]
fn an_end_that_was_cut_does_not_shorten_one_that_was_not() {
    let objects = [part(0, 5), last(5, 6), part(5, 9), last(9, 12)];
    assert_eq!(extent(&objects), (12, true));
    // The line about the cut is no part of the longer output.
    let stored = StoredLog::of(objects);
    assert_eq!(stored.locate(5), Some((part(5, 9), 0..4)));
}

#[test]
fn output_of_another_lease_is_ignored() {
    let other = Object { token: token(2), ..last(0, 3) };
    let stored = StoredLog::of([other, part(0, 5)]);
    assert_eq!((stored.owner, stored.extent.len), (Some(token(1)), 5));
}

/// What a coordinator does with the output of an attempt before it is lost.
#[derive(Clone, Debug)]
struct Term {
    /// The number of uploads.
    n_uploads: usize,
    /// How much output has come before each of them.
    steps: Vec<u64>,
    /// The uploads of this number from the end take effect only after those of the next term.
    n_delayed: usize,
}

fn term() -> impl Strategy<Value = Term> {
    let steps = prop::collection::vec(0..3_000_000_u64, 1..8);
    (0..10_usize, steps, 0..3_usize).prop_map(|(n_uploads, steps, n_delayed)| Term {
        n_uploads,
        steps,
        n_delayed,
    })
}

/// Uploads as a coordinator does that starts with `stored` bytes.
fn uploads(term: &Term, stored: u64, total: u64) -> Vec<Object> {
    let (mut stored, mut len, mut n_small) = (stored, stored, 0);
    let mut objects = Vec::new();
    let mut steps = term.steps.iter().cycle();
    while objects.len() < term.n_uploads {
        len = total.min(len + steps.next().unwrap());
        let extent = Extent { len, is_sealed: len == total };
        match next(stored, extent, Duration::from_secs(30), n_small) {
            Next::Wait(_) => {}
            Next::Part(range) => {
                n_small += 1;
                stored = range.end;
                objects.push(part(range.start, range.end));
            }
            Next::End(range) => {
                objects.push(last(range.start, range.end));
                break;
            }
        }
        if term.steps.iter().all(|step| *step == 0) {
            break;
        }
    }
    objects
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_coordinators_are_lost_the_store_has_a_prefix_and_in_the_end_everything(
        terms in prop::collection::vec(term(), 0..5),
        total in 0..9_000_000_u64,
    ) {
        let mut store: BTreeMap<String, Object> = BTreeMap::new();
        let mut late: Vec<Object> = Vec::new();
        let finishing = Term { n_uploads: usize::MAX, steps: vec![1_000_000], n_delayed: 0 };
        for term in terms.iter().chain([&finishing]) {
            let stored = StoredLog::of(store.values().copied());
            let mut objects = uploads(term, stored.extent.len, total);
            let delayed = objects.split_off(objects.len().saturating_sub(term.n_delayed));
            if stored.extent.is_sealed {
                objects.clear();
            }
            let put = objects.into_iter().chain(std::mem::replace(&mut late, delayed));
            store.extend(put.map(|object| (object.name(), object)));
            check_reading(&StoredLog::of(store.values().copied()), total);
        }
        let whole = StoredLog::of(store.values().copied());
        prop_assert_eq!(whole.extent, Extent { len: total, is_sealed: true });
        // A deposed coordinator finishes an upload at last.
        store.extend(late.into_iter().map(|object| (object.name(), object)));
        prop_assert_eq!(StoredLog::of(store.values().copied()).extent, whole.extent);
    }
}

/// Reads everything from the objects, a piece at a time.
fn check_reading(stored: &StoredLog, total: u64) {
    let mut offset = 0;
    while let Some((object, range)) = stored.locate(offset) {
        assert!(range.start < range.end, "nothing to read at {offset}");
        assert!(object.start + range.end <= object.end, "{object:?} ends before {range:?}");
        assert_eq!(object.start + range.start, offset);
        offset = object.start + range.end;
    }
    assert_eq!(offset, stored.extent.len);
    assert!(offset <= total);
    assert!(!stored.extent.is_sealed || offset == total);
}
