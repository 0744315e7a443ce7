//! Finds out which files still take space: those with a name below a container's directories, and
//! those that this process has open.
//!
//! What cannot be looked at in full is not guessed: the answer is then that nothing is known.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{RawDir, SeekFrom};

/// How many files are looked at before giving up.
const MOST_LOOKED_AT: usize = 50_000;

/// What tells a file from every other, also from a later one with the same number.
pub(crate) type FileKey = (u64, u64, Option<SystemTime>);

pub(crate) fn key_of(found: &Metadata) -> FileKey {
    (found.dev(), found.ino(), found.created().ok())
}

/// The same of what cap-std looked at.
pub(crate) fn key_in_dir(found: &cap_std::fs::Metadata) -> FileKey {
    use cap_std::fs::MetadataExt;
    (found.dev(), found.ino(), found.created().ok().map(cap_std::time::SystemTime::into_std))
}

/// What a file takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) length: u64,
    pub(crate) names: u64,
}

/// What there is at this moment.
pub(crate) struct Alive {
    named: HashMap<FileKey, Taken>,
    open: HashSet<FileKey>,
}

impl Alive {
    /// Looks below directories, and at what is open; `None` if that is not to be found out.
    ///
    /// Looks twice, since a rename that is under way may carry a file past one look.
    /// `own` is this process's folder of what it has open, which it may not be able to open any more.
    pub(crate) fn look<'a>(
        dirs: impl Iterator<Item = &'a File> + Clone,
        own: &File,
    ) -> Option<Alive> {
        let first = below(dirs.clone())?;
        let mut named = below(dirs)?;
        for (key, taken) in first {
            let seen = named.entry(key).or_default();
            seen.length = seen.length.max(taken.length);
            seen.names = seen.names.max(taken.names);
        }
        Some(Alive { named, open: open_files(own).ok()? })
    }

    /// Whether somebody has the file open, so that it takes what it took in any case.
    pub(crate) fn is_open(&self, key: &FileKey) -> bool {
        self.open.contains(key)
    }

    /// What a file takes that has a name.
    pub(crate) fn taken(&self, key: &FileKey) -> Option<Taken> {
        self.named.get(key).copied()
    }
}

fn below<'a>(dirs: impl Iterator<Item = &'a File>) -> Option<HashMap<FileKey, Taken>> {
    let mut found = HashMap::new();
    for dir in dirs {
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        collect(path, &mut found)?;
    }
    Some(found)
}

/// Collects what is below a folder; `None` if some of it could not be looked at. Uses no more of the stack
/// for a deep tree than for a flat one: a guest has made it, and its stack may be all but full.
fn collect(folder: PathBuf, into: &mut HashMap<FileKey, Taken>) -> Option<()> {
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => match is_empty_for_us(&folder, &error) {
                true => continue,
                false => return None,
            },
        };
        for entry in entries {
            let entry = entry.ok()?;
            let found = match entry.metadata() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => return None,
            };
            if into.len() >= MOST_LOOKED_AT {
                return None;
            }
            let length = if found.is_file() { found.len() } else { 0 };
            into.insert(key_of(&found), Taken { length, names: found.nlink() });
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Some(())
}

/// Whether a folder that cannot be read holds nothing of the guest's: it has gone, or the guest, which
/// acts as this process, cannot have put anything there.
fn is_empty_for_us(folder: &Path, error: &io::Error) -> bool {
    use rustix::fs::{Access, access};
    match error.kind() {
        io::ErrorKind::NotFound => true,
        io::ErrorKind::PermissionDenied => {
            access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err()
        }
        _ => false,
    }
}

/// The folder of what this process has open.
pub(crate) fn own_files() -> io::Result<File> {
    File::open("/proc/self/fd")
}

/// The files that this process has open, by whatever handle: they take space without a name, too.
fn open_files(own: &File) -> io::Result<HashSet<FileKey>> {
    rustix::fs::seek(own, SeekFrom::Start(0))?;
    let mut room = Vec::with_capacity(8 << 10);
    let mut entries = RawDir::new(own, room.spare_capacity_mut());
    let mut open = HashSet::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        match fs::metadata(format!("/proc/self/fd/{name}")) {
            Ok(found) => drop(open.insert(key_of(&found))),
            // Closed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(open)
}
