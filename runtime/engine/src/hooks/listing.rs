//! Lists directories piece by piece, as the guest reads. WASI's own implementations keep all names of a directory for
//! every list that is being read, or a thread.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, RawDir, RawDirEntry, Stat, fstat, statat};
use rustix::io::{Errno, retry_on_intr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::handles;
use crate::run::Blocking;

/// How much of a directory is read at once.
const PIECE: usize = 16 << 10;

/// How many lists a guest may be reading at once. Each keeps a piece, and its file: for some file systems, such as
/// overlays, the kernel keeps all names of the directory for as long as that is open.
pub(crate) const MOST_LISTS: usize = 32;

/// Leave to read lists.
#[derive(Clone)]
pub(crate) struct Lists(Arc<Semaphore>);

impl Lists {
    pub(crate) fn new() -> Lists {
        Lists(Arc::new(Semaphore::new(MOST_LISTS)))
    }

    /// Leave for one more.
    ///
    /// # Errors
    /// Fails if there are too many.
    pub(super) fn one_more(&self) -> io::Result<Leave> {
        let leave = Arc::clone(&self.0).try_acquire_owned();
        leave.map(Leave).map_err(|_| Errno::NOMEM.into())
    }
}

/// Leave for a list that is being read.
pub(super) struct Leave(
    #[expect(dead_code, reason = "it is given back when it is dropped")] OwnedSemaphorePermit,
);

/// How much is to be told of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What it is of, which directories mostly know.
    Kind,
    /// And which file it is.
    Identity,
}

/// The names in a directory, but for its own and its parent's.
pub(super) struct Names {
    dir: OwnedFd,
    depth: Depth,
    /// What was read of it and not given out yet.
    read: VecDeque<io::Result<Name>>,
    has_ended: bool,
    _leave: Leave,
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) kind: FileType,
    /// Where it was asked for.
    pub(super) identity: Option<Identity>,
}

/// A file's device and number.
pub(super) type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

impl Names {
    /// Opens a directory once more, to list it. This may take the time of a disk.
    ///
    /// # Errors
    /// Fails if it may not be read.
    pub(super) fn of(dir: impl AsFd, depth: Depth, leave: Leave) -> io::Result<Names> {
        let dir = handles::open_to_list(dir)?;
        Ok(Names { dir, depth, read: VecDeque::new(), has_ended: false, _leave: leave })
    }

    /// Which file the directory itself is.
    ///
    /// # Errors
    /// Fails if it cannot be told.
    pub(super) fn own_identity(&self) -> io::Result<Identity> {
        Ok(identity(&fstat(&self.dir)?))
    }

    /// The next name, or why it cannot be told; none if there is none in what was read.
    pub(super) fn next(&mut self) -> Option<io::Result<Name>> {
        self.read.pop_front()
    }

    /// Has a name be the next one.
    pub(super) fn put_back(&mut self, name: Name) {
        self.read.push_front(Ok(name));
    }

    /// Whether there will be no more names.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended && self.read.is_empty()
    }

    /// Reads more names, if there are any, once all are given out. This may take the time of a disk.
    pub(super) fn read_on(&mut self) {
        let mut piece = Vec::with_capacity(PIECE);
        while self.read.is_empty() && !self.has_ended {
            let mut entries = RawDir::new(&self.dir, piece.spare_capacity_mut());
            loop {
                match entries.next() {
                    Some(Ok(entry)) => self.read.extend(named(&self.dir, &entry, self.depth)),
                    Some(Err(Errno::INTR)) => {}
                    // A directory that was removed has no names any more.
                    None | Some(Err(Errno::NOENT)) => self.has_ended = true,
                    Some(Err(error)) => {
                        self.read.push_back(Err(error.into()));
                        self.has_ended = true;
                    }
                }
                if self.has_ended || entries.is_buffer_empty() {
                    break;
                }
            }
        }
    }
}

/// What is to be told of an entry; nothing of the directory itself, its parent, and what is not there any more.
fn named(dir: &OwnedFd, entry: &RawDirEntry<'_>, depth: Depth) -> Option<io::Result<Name>> {
    let name = entry.file_name();
    if [c".", c".."].contains(&name) {
        return None;
    }
    let Ok(text) = name.to_str() else { return Some(Err(Errno::ILSEQ.into())) };
    let text = text.to_owned();
    // Not every file system says with the name what it is of.
    if depth == Depth::Kind && entry.file_type() != FileType::Unknown {
        return Some(Ok(Name { text, kind: entry.file_type(), identity: None }));
    }
    match look_at(dir, name) {
        Ok(stat) => {
            let (kind, identity) = (FileType::from_raw_mode(stat.st_mode), identity(&stat));
            Some(Ok(Name { text, kind, identity: Some(identity) }))
        }
        Err(Errno::NOENT) => None,
        Err(error) => Some(Err(error.into())),
    }
}

fn look_at(dir: &OwnedFd, name: &CStr) -> Result<Stat, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    retry_on_intr(|| statat(dir, name, flags))
}

/// Does what may take the time of a disk, on another thread if this one is not to wait for it.
///
/// # Errors
/// Fails if the work does not come to its end.
pub(super) async fn away<T: Send + 'static>(
    blocking: Blocking,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match blocking {
        Blocking::Allowed => Ok(work()),
        Blocking::Never => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
    }
}

/// Names of which some are read, if any are left. Others have a turn meanwhile.
///
/// # Errors
/// Fails as `away` does.
pub(super) async fn with_more(mut names: Names, blocking: Blocking) -> io::Result<Names> {
    if !names.read.is_empty() || names.has_ended {
        return Ok(names);
    }
    if blocking == Blocking::Allowed {
        tokio::task::yield_now().await;
    }
    away(blocking, move || {
        names.read_on();
        names
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs::File;

    fn folder(names: impl IntoIterator<Item = String>) -> (tempfile::TempDir, BTreeSet<String>) {
        let folder = tempfile::tempdir().unwrap();
        let names: BTreeSet<String> = names.into_iter().collect();
        for name in &names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        (folder, names)
    }

    fn names_of(folder: &tempfile::TempDir, depth: Depth) -> Names {
        let dir = File::open(folder.path()).unwrap();
        Names::of(dir, depth, Lists::new().one_more().unwrap()).unwrap()
    }

    fn rest(names: &mut Names) -> Vec<io::Result<Name>> {
        let mut all = Vec::new();
        while !names.has_ended() {
            names.read_on();
            all.extend(std::iter::from_fn(|| names.next()));
        }
        all
    }

    #[test]
    fn every_name_comes_once_and_few_are_kept() {
        let (folder, all) = folder((0..2_000).map(|number| format!("{number:0>200}")));
        for depth in [Depth::Kind, Depth::Identity] {
            let (mut names, mut seen) = (names_of(&folder, depth), Vec::new());
            while !names.has_ended() {
                names.read_on();
                assert!(names.read.len() <= PIECE / 200, "{} names at once", names.read.len());
                while let Some(name) = names.next() {
                    let name = name.unwrap();
                    assert_eq!(name.kind, FileType::RegularFile);
                    assert_eq!(name.identity.is_some(), depth == Depth::Identity);
                    seen.push(name.text);
                }
            }
            assert_eq!(seen.len(), all.len());
            assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_an_error_and_the_others_come() {
        use std::os::unix::ffi::OsStrExt;
        let (folder, _) = folder(["one".to_owned(), "two".to_owned()]);
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let all = rest(&mut names_of(&folder, Depth::Kind));
        assert_eq!(all.len(), 3);
        let errors: Vec<_> = all.iter().filter_map(|name| name.as_ref().err()).collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].raw_os_error(), Some(libc::EILSEQ));
    }

    #[test]
    fn a_directory_that_is_gone_is_empty() {
        let (folder, _) = folder([]);
        let mut names = names_of(&folder, Depth::Kind);
        std::fs::remove_dir(folder.path()).unwrap();
        assert!(rest(&mut names).is_empty());
    }

    #[test]
    fn lists_are_bounded_and_given_back() {
        let lists = Lists::new();
        let leaves: Vec<Leave> = (0..MOST_LISTS).map(|_| lists.one_more().unwrap()).collect();
        assert_eq!(lists.one_more().err().unwrap().raw_os_error(), Some(libc::ENOMEM));
        drop(leaves);
        assert!(lists.one_more().is_ok());
    }
}
