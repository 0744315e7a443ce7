//! Copies an image's files for a container that may write to its root.
//!
//! An image's author decides what is copied, at every start: so links stay links, a copy ends with its
//! container's deadline, stops when its container is stopped, and holds no thread that guests share. Where the
//! file system can, contents are shared until they are written to (`copy_file_range`).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirEntry, MetadataExt, OpenOptions};

use crate::error::EngineError;
use crate::handles::RootFiles;

/// Bytes between two looks at the deadline.
const PIECE: u64 = 8 << 20;

/// Thread that a copy is made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The calling one: its process has no other guest, and may have no other thread yet.
    ThisThread,
    /// One that may wait for a disk.
    BlockingThread,
}

/// End of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Copied {
    /// The whole tree is in this folder.
    Whole(PathBuf),
    /// The deadline came first.
    TimedOut,
}

/// Copies an image's files, but for the program itself, into a new folder of the container's scratch space.
///
/// # Errors
/// Fails if a file cannot be read, or the disk is full.
pub(crate) async fn copy(
    root: &RootFiles,
    scratch: Option<&Path>,
    deadline: Option<Instant>,
    on: On,
) -> Result<Copied, EngineError> {
    let missing = || EngineError::Scratch {
        path: "root".into(),
        source: io::Error::new(io::ErrorKind::NotFound, "the container has no folder for it"),
    };
    let target = scratch.ok_or_else(missing)?.join("root");
    let failed = |source| EngineError::Scratch { path: target.clone(), source };
    let stopped = Stopped::default();
    let copying = Copying {
        from: root.tree.clone(),
        to: target.clone(),
        without: root.program.clone(),
        deadline,
        stopped: Arc::clone(&stopped.0),
    };
    let copied = match on {
        On::ThisThread => copying.run(),
        On::BlockingThread => match tokio::task::spawn_blocking(move || copying.run()).await {
            Ok(copied) => copied,
            Err(gone) => Err(io::Error::other(gone)),
        },
    };
    match copied {
        Ok(()) => Ok(Copied::Whole(target)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Copied::TimedOut),
        Err(error) => Err(failed(error)),
    }
}

/// Stops a copy whose container is gone.
#[derive(Default)]
struct Stopped(Arc<AtomicBool>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Copying {
    from: PathBuf,
    to: PathBuf,
    without: PathBuf,
    deadline: Option<Instant>,
    stopped: Arc<AtomicBool>,
}

impl Copying {
    /// Copies folder by folder, with two folders open at a time, and no more of the stack for a deep tree
    /// than for a flat one.
    fn run(&self) -> io::Result<()> {
        fs::create_dir(&self.to)?;
        let from = Dir::open_ambient_dir(&self.from, ambient_authority())?;
        let to = Dir::open_ambient_dir(&self.to, ambient_authority())?;
        // The copies of files that have several names.
        let mut linked = HashMap::new();
        let mut folders = vec![PathBuf::from(".")];
        while let Some(below) = folders.pop() {
            let source = from.open_dir(&below)?;
            let target = to.open_dir(&below)?;
            for entry in source.entries()? {
                self.check()?;
                let entry = entry?;
                let (name, kind) = (entry.file_name(), entry.file_type()?);
                let path = below.join(&name);
                if kind.is_dir() {
                    target.create_dir(&name)?;
                    folders.push(path);
                } else if kind.is_symlink() {
                    target.symlink_contents(source.read_link_contents(&name)?, &name)?;
                } else if path.strip_prefix(".").is_ok_and(|path| path != self.without) {
                    self.file(&entry, (&to, &target), path, &mut linked)?;
                }
            }
        }
        Ok(())
    }

    /// Copies one file, or links it to the copy that is there.
    fn file(
        &self,
        entry: &DirEntry,
        (root, target): (&Dir, &Dir),
        path: PathBuf,
        linked: &mut HashMap<(u64, u64), PathBuf>,
    ) -> io::Result<()> {
        let (name, found) = (entry.file_name(), entry.metadata()?);
        let key = (found.dev(), found.ino());
        if let Some(first) = linked.get(&key) {
            return root.hard_link(first, target, &name);
        }
        let mut to =
            target.open_with(&name, OpenOptions::new().write(true).create_new(true))?.into_std();
        self.content(&entry.open()?.into_std(), &mut to)?;
        to.set_permissions(fs::Permissions::from_mode(found.mode() & 0o777))?;
        if found.nlink() > 1 {
            linked.insert(key, path);
        }
        Ok(())
    }

    fn content(&self, from: &File, to: &mut File) -> io::Result<()> {
        while io::copy(&mut from.take(PIECE), to)? > 0 {
            self.check()?;
        }
        Ok(())
    }

    /// Fails when nobody wants the copy any more.
    fn check(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn copied(tree: &Path, scratch: &Path, deadline: Option<Instant>) -> Copied {
        let root = RootFiles {
            tree: tree.to_owned(),
            program: "app.wasm".into(),
            size: mote_spec::Bytes::mib(1),
        };
        let copy = copy(&root, Some(scratch), deadline, On::ThisThread);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(copy).unwrap()
    }

    fn tree(folder: &Path) -> (PathBuf, PathBuf) {
        let (tree, scratch) = (folder.join("tree"), folder.join("scratch"));
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::create_dir(&scratch).unwrap();
        fs::write(tree.join("app.wasm"), "").unwrap();
        fs::write(tree.join("etc/a"), "1").unwrap();
        std::os::unix::fs::symlink("etc/a", tree.join("link")).unwrap();
        (tree, scratch)
    }

    #[test]
    fn a_copy_has_all_but_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, scratch) = tree(folder.path());
        let Copied::Whole(copy) = copied(&tree, &scratch, None) else { panic!("no copy") };
        assert_eq!(fs::read_to_string(copy.join("link")).unwrap(), "1");
        assert!(!copy.join("app.wasm").exists());
        fs::write(copy.join("etc/a"), "2").unwrap();
        assert_eq!(fs::read_to_string(tree.join("etc/a")).unwrap(), "1", "the image is unchanged");
    }

    #[test]
    fn hard_links_stay_links_to_one_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, scratch) = tree(folder.path());
        for number in 0..50 {
            fs::hard_link(tree.join("etc/a"), tree.join(format!("etc/{number}"))).unwrap();
        }
        let Copied::Whole(copy) = copied(&tree, &scratch, None) else { panic!("no copy") };
        let first = fs::metadata(copy.join("etc/a")).unwrap();
        assert_eq!(first.nlink(), 51);
        assert_ne!(first.ino(), fs::metadata(tree.join("etc/a")).unwrap().ino());
    }

    #[test]
    fn a_copy_ends_at_its_containers_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, scratch) = tree(folder.path());
        assert_eq!(copied(&tree, &scratch, Some(Instant::now())), Copied::TimedOut);
    }
}
