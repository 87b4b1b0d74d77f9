//! Tests of writing and reading logs.

use super::*;

fn attempt(number: u32) -> AttemptId {
    let run = "0190a5b4-0000-7000-8000-000000000001".parse().unwrap();
    AttemptId { run, task: TaskIx(3), number }
}

async fn read_all(mut reader: LogReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await.unwrap() {
        assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= CHUNK_BYTES_MAX);
        all.extend_from_slice(&chunk.bytes);
    }
    all
}

#[tokio::test]
async fn a_reader_follows_the_writer_to_the_seal() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap().writer(attempt(1));
    let mut reader = writer.reader(0);
    writer.append(b"one\n");
    assert_eq!(reader.next().await.unwrap().unwrap(), Chunk { offset: 0, bytes: "one\n".into() });
    let waiting = tokio::spawn(async move { (reader.next().await.unwrap(), reader) });
    writer.append(b"two\n");
    let (chunk, mut reader) = waiting.await.unwrap();
    assert_eq!(chunk.unwrap(), Chunk { offset: 4, bytes: "two\n".into() });
    let waiting = tokio::spawn(async move { (reader.next().await.unwrap(), reader.offset()) });
    writer.seal();
    assert_eq!(waiting.await.unwrap(), (None, 8));
}

#[tokio::test]
async fn a_reader_starts_where_the_last_one_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap().writer(attempt(1));
    let text = "0123456789".repeat(20_000);
    writer.append(text.as_bytes());
    let reader = writer.reader(100_001);
    drop(writer);
    assert_eq!(read_all(reader).await, &text.as_bytes()[100_001..]);
}

#[tokio::test]
async fn a_silent_attempt_leaves_no_file_and_its_log_ends() {
    let dir = tempfile::tempdir().unwrap();
    let logs = LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap();
    let writer = logs.writer(attempt(1));
    writer.append(b"");
    let reader = writer.reader(0);
    drop(writer);
    assert_eq!(read_all(reader).await, b"");
    assert!(logs.attempts().unwrap().is_empty());
}

#[tokio::test]
async fn a_log_over_the_cap_is_cut_and_says_so_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogDir::open(dir.path(), 10).unwrap().writer(attempt(1));
    writer.append(b"12345678");
    writer.append(b"90abc");
    writer.append(b"de");
    assert!(writer.is_full());
    let reader = writer.reader(0);
    writer.seal();
    writer.append(b"late");
    let text = String::from_utf8(read_all(reader).await).unwrap();
    assert_eq!(text, "1234567890\n[kahn] log cut after 10 bytes, 5 bytes dropped\n");
}

#[tokio::test]
async fn logs_of_an_earlier_start_are_found_and_say_whether_they_were_cut() {
    let dir = tempfile::tempdir().unwrap();
    let token = |serial| Token { epoch: 1, serial, nonce: 9 };
    let logs = LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap();
    let whole = logs.writer_under(attempt(1), token(1));
    whole.append(b"all of it\n");
    whole.seal();
    // Leaked, as if the process had been killed.
    let cut = Box::leak(Box::new(logs.writer_under(attempt(2), token(2))));
    cut.append(b"half a li");
    std::fs::write(dir.path().join("note.txt"), "not a log").unwrap();

    for _ in 0..2 {
        let logs = LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap();
        assert_eq!(logs.attempts().unwrap(), [attempt(1), attempt(2)]);
        let mut found = logs.left_behind(|_, _| false).unwrap();
        found.sort_by_key(|leftover| leftover.attempt);
        let mut texts = Vec::new();
        for Leftover { token, reader, .. } in found {
            texts.push((token, String::from_utf8(read_all(reader).await).unwrap()));
        }
        let mark = "[kahn] the worker was ended here; what was printed last may be missing";
        let cut = format!("half a li\n{mark}\n");
        assert_eq!(texts, [(token(1), "all of it\n".to_owned()), (token(2), cut)]);
    }
    logs.remove_under(attempt(2), token(2)).unwrap();
    logs.remove_under(attempt(2), token(2)).unwrap();
    assert_eq!(logs.attempts().unwrap(), [attempt(1)]);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_drops_its_bytes_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let logs = LogDir::open(&dir.path().join("logs"), LOG_BYTES_MAX).unwrap();
    std::fs::remove_dir(dir.path().join("logs")).unwrap();
    let writer = logs.writer(attempt(1));
    writer.append(b"lost");
    let reader = writer.reader(0);
    writer.seal();
    assert_eq!(read_all(reader).await, b"");
}

#[test]
fn a_log_is_continued_by_another_start_which_skips_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let logs = LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap();
    let (attempt, token) = (attempt(1), NO_LEASE);
    let first = logs.writer_under(attempt, token);
    first.append(b"one\ntwo\n");
    // As if the worker had been killed.
    std::mem::drop(std::fs::copy(logs.path(attempt, token), dir.path().join("copy")));
    drop(first);
    std::fs::remove_file(logs.path(attempt, token)).unwrap();
    std::fs::rename(dir.path().join("copy"), logs.path(attempt, token)).unwrap();

    assert!(logs.left_behind(|found, _| found == attempt).unwrap().is_empty());
    let second = logs.resume_under(attempt, token);
    assert_eq!(second.len(), 8);
    second.skip(4);
    second.append(b"tw");
    second.append(b"o\nthree\n");
    assert_eq!(std::fs::read(logs.path(attempt, token)).unwrap(), b"one\ntwo\nthree\n");
    let fresh = logs.resume_under(AttemptId { number: 9, ..attempt }, token);
    fresh.append(b"x");
    assert_eq!(fresh.len(), 1);
}
