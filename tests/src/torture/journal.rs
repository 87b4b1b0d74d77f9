//! What tasks have written to disk, in order, with marks for the faults.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::faults::Fault;

/// Where a line that was just written is looked for: the end of the journal, in bytes.
const TAIL_BYTES: u64 = 64 << 10;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An attempt has started.
    Start(Attempt),
    /// An attempt has done its work.
    End(Attempt),
    /// A worker was killed or paused, or its disk is full.
    WorkerHit(usize),
    /// That is over.
    WorkerHealed(usize),
}

/// An attempt, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub run: String,
    pub task: String,
    pub number: u32,
    pub worker: usize,
}

/// A file that all tasks append to.
#[derive(Clone, Debug)]
pub(super) struct Journal(PathBuf);

impl Journal {
    pub(super) fn create(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Marks that a fault begins or has begun.
    pub(super) fn mark(&self, fault: &Fault) -> anyhow::Result<()> {
        match fault.hits_worker() {
            Some(ix) => self.append(&format!("hit {ix}\n")),
            None => self.append(&format!("fault {}\n", fault.name())),
        }
    }

    /// Marks that a fault is over.
    pub(super) fn mark_end(&self, fault: &Fault) -> anyhow::Result<()> {
        match fault.hits_worker() {
            Some(ix) => self.append(&format!("healed {ix}\n")),
            None => Ok(()),
        }
    }

    fn append(&self, line: &str) -> anyhow::Result<()> {
        Ok(File::options().append(true).open(&self.0)?.write_all(line.as_bytes())?)
    }

    pub(super) fn read(&self) -> anyhow::Result<Vec<Line>> {
        Ok(std::fs::read_to_string(&self.0)?.lines().filter_map(parse).collect())
    }

    /// Returns whether a task of a run has started just now.
    pub(super) fn has_start(&self, run: &str) -> bool {
        let is_its = |line: Line| matches!(line, Line::Start(attempt) if attempt.run == run);
        self.tail().is_ok_and(|text| text.lines().filter_map(parse).any(is_its))
    }

    fn tail(&self) -> anyhow::Result<String> {
        let mut file = File::open(&self.0)?;
        let n_bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(n_bytes.saturating_sub(TAIL_BYTES)))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// Returns the script of a task that takes `seconds`.
///
/// It prints a line and sets an output. An attempt that cannot set it, because the disk of its
/// worker is full, fails.
pub(super) fn script(journal: &Path, seconds: f64) -> String {
    let journal = journal.display();
    let line = "$KAHN_RUN_ID $KAHN_TASK $KAHN_ATTEMPT $KAHN_SCRATCH";
    let output = "echo n=$KAHN_ATTEMPT | tee -a $KAHN_OUTPUT";
    format!(
        "echo start {line} >> {journal}; sleep {seconds}; {output} && echo end {line} >> {journal}"
    )
}

fn parse(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split(' ').collect();
    match *words {
        ["hit", ix] => Some(Line::WorkerHit(ix.parse().ok()?)),
        ["healed", ix] => Some(Line::WorkerHealed(ix.parse().ok()?)),
        ["start", run, task, number, scratch] => {
            Some(Line::Start(attempt(run, task, number, scratch)?))
        }
        ["end", run, task, number, scratch] => {
            Some(Line::End(attempt(run, task, number, scratch)?))
        }
        _ => None,
    }
}

fn attempt(run: &str, task: &str, number: &str, scratch: &str) -> Option<Attempt> {
    // The scratch directory is in the data directory of the worker, which has its name.
    let name = |part: &str| part.strip_prefix('w').and_then(|digits| digits.parse().ok());
    Some(Attempt {
        run: run.to_owned(),
        task: task.to_owned(),
        number: number.parse().ok()?,
        worker: scratch.split('/').rev().find_map(name)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tasks_and_marks_are_told_apart() {
        let attempt = Attempt { run: "r".into(), task: "t".into(), number: 2, worker: 1 };
        let line = "r t 2 /tmp/x/w1/scratch/7";
        assert_eq!(parse(&format!("start {line}")), Some(Line::Start(attempt.clone())));
        assert_eq!(parse(&format!("end {line}")), Some(Line::End(attempt)));
        assert_eq!(parse("hit 2"), Some(Line::WorkerHit(2)));
        assert_eq!(parse("healed 2"), Some(Line::WorkerHealed(2)));
        assert_eq!(parse("fault leader killed"), None);
        assert_eq!(parse("start r t"), None);
    }
}
