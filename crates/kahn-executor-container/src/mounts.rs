//! Mounts of host directories into containers.

use std::path::{Component, Path, PathBuf};

use bollard::models::{Mount as EngineMount, MountBindOptions, MountType};
use kahn_executor::failure::{cannot_start, forbidden};
use kahn_model::{Failure, Mount};

use kahn_executor::secrets::CONTAINER_DIR;

/// The directory for outputs in a container.
pub(super) const KAHN_DIR: &str = "/kahn";

/// Returns the engine's description of a mount if its source is in `allowed`.
pub(super) fn mount(mount: &Mount, allowed: &[PathBuf]) -> Result<EngineMount, Failure> {
    let target = Path::new(&*mount.target);
    let is_ours = [KAHN_DIR, CONTAINER_DIR].iter().any(|dir| target.starts_with(dir));
    if target.parent().is_none() || !target.is_absolute() || is_ours {
        let target = &mount.target;
        return Err(cannot_start(&format!("nothing can be mounted at `{target}`")));
    }
    let source = resolve(Path::new(mount.source.as_str()), allowed)?;
    // Submounts would stay writable even if the mount itself is read-only.
    let is_shallow = !mount.is_writable;
    Ok(EngineMount {
        target: Some(mount.target.to_string()),
        source: Some(text(&source)?),
        typ: Some(MountType::BIND),
        read_only: Some(!mount.is_writable),
        bind_options: Some(MountBindOptions {
            non_recursive: Some(is_shallow),
            ..MountBindOptions::default()
        }),
        ..EngineMount::default()
    })
}

/// Returns the mount of the directory for outputs.
pub(super) fn outputs(dir: &Path) -> Result<EngineMount, Failure> {
    Ok(EngineMount {
        target: Some(KAHN_DIR.to_owned()),
        source: Some(text(dir)?),
        typ: Some(MountType::BIND),
        read_only: Some(false),
        ..EngineMount::default()
    })
}

/// Returns the mount of the directory with secret files.
pub(super) fn secrets(dir: &Path) -> Result<EngineMount, Failure> {
    Ok(EngineMount {
        target: Some(CONTAINER_DIR.to_owned()),
        source: Some(text(dir)?),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..EngineMount::default()
    })
}

/// Returns the path of `source` without symbolic links if it is in one of `allowed`.
fn resolve(source: &Path, allowed: &[PathBuf]) -> Result<PathBuf, Failure> {
    let refuse = || {
        let source = source.display();
        forbidden(&format!("{source} may not be mounted: worker.container.mounts does not hold it"))
    };
    if !source.is_absolute() {
        let source = source.display();
        return Err(cannot_start(&format!("`{source}` is not an absolute path on the host")));
    }
    let real = match source.canonicalize() {
        Ok(real) => real,
        // The existence of a path is disclosed only in allowed directories.
        Err(error) if is_plain(source) && allowed.iter().any(|dir| source.starts_with(dir)) => {
            return Err(cannot_start(&format!("cannot mount {}: {error}", source.display())));
        }
        Err(_) => return Err(refuse()),
    };
    let real_allowed = allowed.iter().filter_map(|dir| dir.canonicalize().ok());
    if !real_allowed.into_iter().any(|dir| real.starts_with(dir)) {
        return Err(refuse());
    }
    Ok(real)
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| cannot_start(&format!("{} is not valid UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use kahn_model::{CauseKind, Text};

    use super::*;

    fn asked(source: &Path, target: &str) -> Mount {
        let source = Text::new(source.to_str().unwrap());
        Mount { source, target: target.into(), is_writable: false }
    }

    fn cause(source: &Path, allowed: &[PathBuf]) -> CauseKind {
        mount(&asked(source, "/data"), allowed).unwrap_err().cause.kind
    }

    #[test]
    fn only_what_is_really_in_an_allowed_directory_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (open, closed) = (root.join("open"), root.join("open-not"));
        std::fs::create_dir_all(open.join("sub")).unwrap();
        std::fs::create_dir(&closed).unwrap();
        std::os::unix::fs::symlink(&closed, open.join("out")).unwrap();
        std::os::unix::fs::symlink(&open, root.join("in")).unwrap();
        let allowed = [open.clone()];

        let found = mount(&asked(&root.join("in/sub"), "/data"), &allowed).unwrap();
        assert_eq!(found.source.as_deref(), open.join("sub").to_str());
        assert_eq!(found.read_only, Some(true));
        assert_eq!(cause(&open, &[]), CauseKind::Policy);
        assert_eq!(cause(&closed, &allowed), CauseKind::Policy);
        assert_eq!(cause(&open.join("out"), &allowed), CauseKind::Policy);
        assert_eq!(cause(&open.join("../open-not"), &allowed), CauseKind::Policy);
        assert_eq!(cause(&open.join("../nothing"), &allowed), CauseKind::Policy);
        assert_eq!(cause(&open.join("nothing"), &allowed), CauseKind::Image);
        // An allowed directory may be given as a symbolic link.
        assert!(mount(&asked(&open, "/data"), &[root.join("in")]).is_ok());
    }

    #[test]
    fn the_place_of_the_outputs_is_not_mounted_over() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = [dir.path().to_owned()];
        for target in ["/", "/kahn", "/kahn/output", "data", ""] {
            let failure = mount(&asked(dir.path(), target), &allowed).unwrap_err();
            assert!(failure.message.contains(target), "{failure}");
        }
        assert!(mount(&asked(dir.path(), "/kahn-data"), &allowed).is_ok());
    }
}
