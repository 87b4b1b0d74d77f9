//! Since when a coordinator has received all output.
//!
//! Output is stored by the leader that receives it. A file beside the output has the epoch of the
//! last leadership of this coordinator, and the time since which no other coordinator has led. Each
//! leadership has an epoch that is one higher than that of the one before.

use std::fs;
use std::io;
use std::path::Path;

use kahn_model::Timestamp;

/// Records that this coordinator leads from `now` on, and returns since when no other has led.
pub(super) fn begin(path: &Path, epoch: u64, now: Timestamp) -> io::Result<Timestamp> {
    let known = match fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let since = match known {
        Some((last, since)) if last + 1 == epoch => since,
        // The first leadership of all has no output from before.
        _ if epoch == 1 => Timestamp::ZERO,
        _ => now,
    };
    let new = path.with_extension("new");
    fs::write(&new, format!("{epoch} {}\n", since.0))?;
    fs::rename(new, path)?;
    Ok(since)
}

fn parse(text: &str) -> Option<(u64, Timestamp)> {
    let (epoch, since) = text.trim().split_once(' ')?;
    Some((epoch.parse().ok()?, Timestamp(since.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leadership_of_another_coordinator_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs.since");
        let begin = |epoch, now| begin(&path, epoch, Timestamp(now)).unwrap().0;
        assert_eq!(begin(1, 10), 0);
        assert_eq!(begin(2, 20), 0);
        assert_eq!(begin(4, 40), 40);
        assert_eq!(begin(5, 50), 40);
        std::fs::write(&path, "damaged").unwrap();
        assert_eq!(begin(6, 60), 60);
    }
}
