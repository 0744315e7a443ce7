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
use crate::launch::Blocking;

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

/// Leave for a list that is not read to its end.
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
    /// None once all is read.
    dir: Option<Open>,
    depth: Depth,
    /// Which file the directory itself is.
    pub(super) own: Identity,
    /// What was read of it and not given out yet.
    read: VecDeque<io::Result<Name>>,
    /// How many more are not to be told.
    to_pass: u64,
    blocking: Blocking,
}

/// A directory that is open to be listed.
struct Open(OwnedFd, #[expect(dead_code, reason = "it is given back when it is dropped")] Leave);

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
    /// Opens a directory once more, to list it.
    ///
    /// # Errors
    /// Fails if it may not be read.
    pub(super) async fn of(
        dir: impl AsFd + Send + 'static,
        depth: Depth,
        leave: Leave,
        blocking: Blocking,
    ) -> io::Result<Names> {
        away(blocking, move || {
            let dir = handles::open_to_list(dir)?;
            let (own, dir) = (identity(&fstat(&dir)?), Some(Open(dir, leave)));
            Ok(Names { dir, depth, own, read: VecDeque::new(), to_pass: 0, blocking })
        })
        .await
    }

    /// What comes after so many of them.
    pub(super) fn after(mut self, to_pass: u64) -> Names {
        self.to_pass = to_pass;
        self
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
        self.dir.is_none() && self.read.is_empty()
    }

    /// Reads more names, if there are any, once all are given out. Others have a turn meanwhile.
    pub(super) async fn with_more(mut self) -> Names {
        if !self.read.is_empty() || self.dir.is_none() {
            return self;
        }
        if self.blocking == Blocking::Allowed {
            tokio::task::yield_now().await;
        }
        away(self.blocking, move || {
            while self.read.is_empty() && self.dir.is_some() {
                self.read_piece();
            }
            self
        })
        .await
    }

    /// Reads a piece, or closes the directory, which may take as long: the kernel may have kept all of it.
    fn read_piece(&mut self) {
        let Some(Open(dir, _)) = &self.dir else { return };
        let mut piece = Vec::with_capacity(PIECE);
        let mut entries = RawDir::new(dir, piece.spare_capacity_mut());
        loop {
            match entries.next() {
                Some(Ok(entry)) if [c".", c".."].contains(&entry.file_name()) => {}
                Some(Ok(_)) if self.to_pass > 0 => self.to_pass -= 1,
                Some(Ok(entry)) => self.read.extend(named(dir, &entry, self.depth)),
                Some(Err(Errno::INTR)) => {}
                // A directory that was removed has no names any more.
                None | Some(Err(Errno::NOENT)) => return self.dir = None,
                Some(Err(error)) => {
                    self.read.push_back(Err(error.into()));
                    return self.dir = None;
                }
            }
            if entries.is_buffer_empty() {
                return;
            }
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // The leave is given back at once: whoever begins another list stands in line behind this.
        let Some(Open(dir, _)) = self.dir.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(events) if self.blocking == Blocking::Never => {
                events.spawn_blocking(move || drop(dir));
            }
            Ok(_) | Err(_) => drop(dir),
        }
    }
}

/// What is to be told of an entry; nothing of what is not there any more.
fn named(dir: &OwnedFd, entry: &RawDirEntry<'_>, depth: Depth) -> Option<io::Result<Name>> {
    let name = entry.file_name();
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
async fn away<T: Send + 'static>(
    blocking: Blocking,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match blocking {
        Blocking::Allowed => work(),
        Blocking::Never => wasmtime_wasi::runtime::spawn_blocking(work).await,
    }
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

    async fn names_of(folder: &tempfile::TempDir, depth: Depth, blocking: Blocking) -> Names {
        let (dir, leave) = (File::open(folder.path()).unwrap(), Lists::new().one_more().unwrap());
        Names::of(dir, depth, leave, blocking).await.unwrap()
    }

    async fn all(mut names: Names) -> Vec<io::Result<Name>> {
        let mut all = Vec::new();
        while !names.has_ended() {
            names = names.with_more().await;
            assert!(names.read.len() <= PIECE / 24, "{} names at once", names.read.len());
            all.extend(std::iter::from_fn(|| names.next()));
        }
        all
    }

    #[tokio::test]
    async fn every_name_comes_once_and_few_are_kept() {
        let (folder, named) = folder((0..2_000).map(|number| format!("{number:0>200}")));
        for blocking in [Blocking::Allowed, Blocking::Never] {
            for depth in [Depth::Kind, Depth::Identity] {
                let seen = all(names_of(&folder, depth, blocking).await).await;
                assert_eq!(seen.len(), named.len());
                let seen = seen.into_iter().map(|name| {
                    let name = name.unwrap();
                    assert_eq!(name.kind, FileType::RegularFile);
                    assert_eq!(name.identity.is_some(), depth == Depth::Identity);
                    name.text
                });
                assert_eq!(seen.collect::<BTreeSet<_>>(), named);
            }
        }
    }

    #[tokio::test]
    async fn a_name_that_is_no_text_is_an_error_and_the_others_come() {
        use std::os::unix::ffi::OsStrExt;
        let (folder, _) = folder(["one".to_owned(), "two".to_owned()]);
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let all = all(names_of(&folder, Depth::Kind, Blocking::Allowed).await).await;
        assert_eq!(all.len(), 3);
        let errors: Vec<_> = all.iter().filter_map(|name| name.as_ref().err()).collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].raw_os_error(), Some(libc::EILSEQ));
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_empty() {
        let (folder, _) = folder([]);
        let names = names_of(&folder, Depth::Kind, Blocking::Allowed).await;
        std::fs::remove_dir(folder.path()).unwrap();
        assert!(all(names).await.is_empty());
    }

    #[tokio::test]
    async fn lists_are_bounded_and_given_back_once_all_is_read() {
        let (folder, _) = folder([]);
        let lists = Lists::new();
        let mut read = Vec::new();
        for _ in 0..MOST_LISTS {
            let (dir, leave) = (File::open(folder.path()).unwrap(), lists.one_more().unwrap());
            read.push(Names::of(dir, Depth::Kind, leave, Blocking::Allowed).await.unwrap());
        }
        assert_eq!(lists.one_more().err().unwrap().raw_os_error(), Some(libc::ENOMEM));
        let ended = read.pop().unwrap().with_more().await;
        assert!(ended.has_ended());
        drop(lists.one_more().unwrap());
        drop(read);
        assert_eq!(lists.0.available_permits(), MOST_LISTS);
    }
}
