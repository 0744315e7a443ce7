//! Folders for what containers write: on the disk with the images, locked while they run, removed after.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mote_image::{bytes_below, remove_tree};

/// Where containers write: on the disk with the images, and not in the volatile state, which is
/// memory on most machines.
pub(crate) fn folder(root: &Path) -> Result<PathBuf, ScratchError> {
    let path = root.join("scratch");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|source| ScratchError { path: path.clone(), source })?;
    Ok(path)
}

/// Why there is no scratch space.
#[derive(Debug, thiserror::Error)]
#[error("cannot make scratch space in {path}")]
pub struct ScratchError {
    path: PathBuf,
    source: std::io::Error,
}

/// A folder for what a container writes, locked while it runs and removed after it.
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a folder for a container of the machine with this root.
    pub fn make(root: &Path) -> Result<Scratch, ScratchError> {
        let all = folder(root)?;
        let failed = |source| ScratchError { path: all.clone(), source };
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

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what containers left that were killed, unless one is starting just now.
pub fn clean(root: &Path) -> Result<(), ScratchError> {
    let all = folder(root)?;
    let failed = |source| ScratchError { path: all.clone(), source };
    if File::open(&all).map_err(failed)?.try_lock().is_ok() {
        remove_abandoned(&all);
    }
    Ok(())
}

/// How many bytes containers have in scratch space.
pub fn bytes(root: &Path) -> u64 {
    bytes_below(&root.join("scratch"))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is removed by the next container.
        let _ = remove_tree(&self.path);
    }
}

/// Removes what containers left that were killed: their locks are free.
fn remove_abandoned(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = remove_tree(&entry.path());
        }
    }
}
