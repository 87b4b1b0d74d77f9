//! Fuzz tests: whatever a worker sends, the core stays consistent and its log readable.

#[cfg(test)]
#[path = "../../kahn-spec/tests/fuzz/driver.rs"]
mod driver;
#[cfg(test)]
#[path = "fuzz/streams.rs"]
mod streams;

use kahn_coordinator::fuzz::worker_stream;

#[test]
fn the_streams_of_the_corpus_reach_the_core() {
    let good = worker_stream(&streams::encoded(&streams::successful_run()));
    assert_eq!(
        (good.n_messages, good.n_succeeded),
        (streams::successful_run().len(), 5),
        "{good:?}"
    );
    let bad = worker_stream(&streams::encoded(&streams::failing_run()));
    assert_eq!(bad.n_messages, streams::failing_run().len());
    assert!(bad.n_changes > 20, "{bad:?}");
    let far = worker_stream(&streams::encoded(&streams::extremes()));
    assert_eq!(far.n_messages, streams::extremes().len());
    assert!(far.n_succeeded > 0, "{far:?}");
}

#[test]
fn no_bytes_break_the_worker_stream() {
    driver::drive("worker stream", &streams::corpus(), |bytes| {
        worker_stream(bytes);
    });
}
