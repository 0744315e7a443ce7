//! Folders for what containers write: on the disk with the images, locked while they run, removed after.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::app::App;
use crate::error::CliError;

/// Where containers write: on the disk with the images, and not in the volatile state, which is
/// memory on most machines.
fn scratch_folder(app: &App) -> Result<PathBuf, CliError> {
    let path = app.root.join("scratch");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| CliError::new(format!("cannot make {}: {error}", path.display())))?;
    Ok(path)
}

/// A folder for what a container writes, locked while it runs and removed after it.
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    pub(crate) fn make(app: &App) -> Result<Scratch, CliError> {
        let all = scratch_folder(app)?;
        let failed = |error| {
            CliError::new(format!("cannot make scratch space in {}: {error}", all.display()))
        };
        // Nobody removes what looks abandoned while somebody is between making and locking.
        let gate = File::open(&all).map_err(failed)?;
        if gate.try_lock().is_ok() {
            remove_abandoned(&all);
        }
        gate.lock_shared().map_err(failed)?;
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed(error.into()))?;
        let path = all.join(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        fs::create_dir(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        lock.lock_shared().map_err(failed)?;
        Ok(Scratch { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what containers left that were killed, unless one is starting just now.
pub(crate) fn clean(app: &App) -> Result<(), CliError> {
    let all = scratch_folder(app)?;
    let failed = |error| CliError::new(format!("cannot open {}: {error}", all.display()));
    if File::open(&all).map_err(failed)?.try_lock().is_ok() {
        remove_abandoned(&all);
    }
    Ok(())
}

/// How many bytes containers have in scratch space.
pub(crate) fn bytes(app: &App) -> u64 {
    fn below(folder: &Path) -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let size = |entry: fs::DirEntry| match entry.metadata() {
            Ok(found) if found.is_dir() => below(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        };
        entries.map(size).sum()
    }
    below(&app.root.join("scratch"))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is removed by the next container.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what containers left that were killed: their locks are free.
fn remove_abandoned(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
