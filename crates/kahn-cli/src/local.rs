//! Runs of `kahn run`. Each has its own directory with the store, the output of its tasks and a
//! record. Several runs can therefore be active at a time, and a killed one can be resumed.

mod cluster;
mod reader;
mod shortage;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kahn_model::{RunId, RunRef, RunState};
use serde::{Deserialize, Serialize};

use crate::dag_file::DagFile;
use crate::exit::Failure;

pub(crate) use cluster::{Cluster, Durability, StoreKind, WorkerSettings};
pub(crate) use reader::Reader;
pub(crate) use shortage::shortages;

/// Maximum ended runs that are kept; the oldest are removed first.
const KEPT_MAX: usize = 100;
const RECORD: &str = "run.json";
const LOCK: &str = "lock";
const DOCUMENT: &str = "dag";

/// The description of a run, next to its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The idempotency key of its submission, and the name of the directory.
    pub key: String,
    /// Its ID, once submitted.
    pub run: Option<String>,
    /// The path of the DAG file, as given.
    pub file: PathBuf,
    /// The name of the DAG.
    pub dag: String,
    /// The given parameters.
    pub params: BTreeMap<String, String>,
    /// Its final state, if it has ended.
    pub state: Option<String>,
}

impl Record {
    /// Returns its ID, once submitted.
    pub(crate) fn run_id(&self) -> Option<RunId> {
        self.run.as_deref()?.parse().ok()
    }

    fn has_ended(&self) -> bool {
        let state = self.state.as_deref().and_then(|state| state.parse::<RunState>().ok());
        state.is_some_and(RunState::is_terminal)
    }
}

/// The directory of a run, locked by this process.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// The description of the run.
    pub record: Record,
    /// Released when the file is closed.
    _lock: File,
}

/// Returns the parent of the directories of all runs.
pub(crate) fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("run")
}

impl RunDir {
    /// Creates the directory of a new run of `file`.
    pub(crate) fn create(root: &Path, path: &Path, file: &DagFile) -> Result<Self, Failure> {
        let dag = file.compiled.dag.name().as_str();
        let dir = Self::create_empty(root, path, dag, file.params.clone())?;
        let document = dir.path.join(DOCUMENT);
        fs::write(&document, &file.source).map_err(failed(&document))?;
        Ok(dir)
    }

    fn create_empty(
        root: &Path,
        file: &Path,
        dag: &str,
        params: BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let key = uuid::Uuid::now_v7().to_string();
        let path = root.join(&key);
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let record = Record { key, run: None, file, dag: dag.to_owned(), params, state: None };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed(&path))?;
        let lock = lock(&path)?;
        let dir = Self { path, record, _lock: lock };
        dir.save()?;
        Ok(dir)
    }

    /// Opens the directory of a run that no other process has locked.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let lock = lock(path)?;
        let record = read(path).ok_or_else(|| {
            Failure::refused(format!("{} is not readable", path.join(RECORD).display()))
        })?;
        Ok(Self { path: path.to_owned(), record, _lock: lock })
    }

    /// Reads the DAG file as it was when the run started.
    pub(crate) fn file(&self) -> Result<DagFile, Failure> {
        let document = self.path.join(DOCUMENT);
        let source = fs::read(&document).map_err(failed(&document))?;
        DagFile::new(self.record.file.display().to_string(), source, self.record.params.clone())
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the record atomically.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let (draft, path) = (self.path.join("run.json.new"), self.path.join(RECORD));
        let text = serde_json::to_vec(&self.record).map_err(io::Error::from);
        text.and_then(|text| fs::write(&draft, text))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(failed(&path))
    }

    /// Removes the directory with its contents.
    pub(crate) fn remove(self) {
        // On failure, a later run tries again.
        drop(fs::remove_dir_all(&self.path));
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::refused(format!("cannot use {}: {error}", path.display()))
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK);
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = open.map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::refused(
            "the run is active in another `kahn run`, and only that process can read its state",
        )
        .advise("wait for it to end, or use a coordinator to watch runs from other processes")),
        Err(TryLockError::Error(error)) => Err(failed(&path)(error)),
    }
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path.join(RECORD)).ok()?).ok()
}

/// Returns all runs, newest first.
pub(crate) fn all(root: &Path) -> Vec<(PathBuf, Record)> {
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    // Keys start with the time.
    paths.sort_unstable_by(|a, b| b.cmp(a));
    paths.into_iter().filter_map(|path| read(&path).map(|record| (path, record))).collect()
}

/// Returns the directory and the ID of a run, or `None` if there is no such run.
///
/// # Errors
///
/// Returns a [`Failure`] if the given prefix matches several IDs.
pub(crate) fn find(root: &Path, run: RunRef) -> Result<Option<(PathBuf, RunId)>, Failure> {
    let is_meant = |id: RunId| match run {
        RunRef::Id(wanted) => id == wanted,
        RunRef::Prefix(prefix) => prefix.matches(id),
        RunRef::Last => true,
    };
    let known = all(root).into_iter();
    let mut found = known.filter_map(|(path, record)| {
        record.run_id().filter(|id| is_meant(*id)).map(|id| (path, id))
    });
    let first = found.next();
    if let (RunRef::Prefix(prefix), Some((_, id)), Some((_, other))) = (run, &first, found.next()) {
        let message = format!("several run IDs start with {prefix}, such as {id} and {other}");
        return Err(Failure::bad_input(message).advise("give more characters"));
    }
    Ok(first)
}

/// Opens the newest run that has not ended and that no other process has locked. With `file`, only
/// runs of that file are considered.
pub(crate) fn unfinished(root: &Path, file: Option<&Path>) -> Option<RunDir> {
    let file = file.map(|file| fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()));
    all(root)
        .into_iter()
        .filter(|(_, record)| !record.has_ended())
        .filter(|(_, record)| file.as_ref().is_none_or(|file| record.file == *file))
        .find_map(|(path, _)| RunDir::open(&path).ok())
}

/// Removes the oldest ended runs beyond the maximum.
pub(crate) fn prune(root: &Path) {
    let ended = all(root).into_iter().filter(|(_, record)| record.has_ended());
    for (path, _) in ended.skip(KEPT_MAX) {
        if let Ok(dir) = RunDir::open(&path) {
            dir.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(root: &Path, run: u128, state: Option<&str>) -> RunDir {
        let mut dir =
            RunDir::create_empty(root, Path::new("etl.yaml"), "etl", BTreeMap::new()).unwrap();
        dir.record.run = Some(RunId::new(uuid::Uuid::from_u128(run)).to_string());
        dir.record.state = state.map(str::to_owned);
        dir.save().unwrap();
        dir
    }

    #[test]
    fn a_run_is_found_by_its_id() {
        let root = tempfile::tempdir().unwrap();
        let path = create(root.path(), 7, None).path().to_owned();
        create(root.path(), 8, None);
        let id = RunId::new(uuid::Uuid::from_u128(7));
        assert_eq!(found(root.path(), RunRef::Id(id)), Some((path, id)));
        let unknown = RunId::new(uuid::Uuid::from_u128(9));
        assert_eq!(found(root.path(), RunRef::Id(unknown)), None);
    }

    fn found(root: &Path, run: RunRef) -> Option<(PathBuf, RunId)> {
        find(root, run).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    #[test]
    fn last_is_the_youngest_run() {
        let root = tempfile::tempdir().unwrap();
        create(root.path(), 7, Some("failed"));
        let path = create(root.path(), 3, None).path().to_owned();
        let id = RunId::new(uuid::Uuid::from_u128(3));
        assert_eq!(found(root.path(), RunRef::Last), Some((path, id)));
    }

    #[test]
    fn a_prefix_is_the_only_run_whose_id_begins_with_it() {
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (0xabcd1 << 108, 0xabcd2 << 108);
        create(root.path(), one, None);
        create(root.path(), other, None);
        let id = RunId::new(uuid::Uuid::from_u128(one));
        let prefix = |text: &str| text.parse::<RunRef>().unwrap();
        assert_eq!(found(root.path(), prefix("abcd1")).map(|(_, id)| id), Some(id));
        assert_eq!(found(root.path(), prefix("abcd3")), None);
        let ambiguous = find(root.path(), prefix("abcd")).unwrap_err();
        assert!(format!("{ambiguous:?}").contains("several run IDs start with abcd"));
    }

    #[test]
    fn the_youngest_unfinished_run_that_nobody_holds_is_resumed() {
        let root = tempfile::tempdir().unwrap();
        create(root.path(), 1, None);
        create(root.path(), 2, Some("active"));
        create(root.path(), 3, Some("failed"));
        let held = create(root.path(), 4, None);
        assert!(RunDir::open(held.path()).is_err());
        let found = unfinished(root.path(), None).unwrap();
        assert_eq!(found.record.run_id(), Some(RunId::new(uuid::Uuid::from_u128(2))));
        assert!(unfinished(root.path(), Some(Path::new("other.yaml"))).is_none());
    }

    #[test]
    fn old_ended_runs_go_and_unfinished_ones_stay() {
        let root = tempfile::tempdir().unwrap();
        create(root.path(), 0, None);
        for run in 1..=120 {
            create(root.path(), run, Some("succeeded"));
        }
        prune(root.path());
        let left = all(root.path());
        assert_eq!(left.len(), KEPT_MAX + 1);
        assert_eq!(left.last().unwrap().1.run_id().unwrap().to_string().as_bytes()[35], b'0');
    }
}
