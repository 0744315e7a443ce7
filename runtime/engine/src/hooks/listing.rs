//! Lists directories piece by piece, as the guest reads: WASI's own implementations keep all names of a directory for
//! every list that is being read, or a thread.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom, Stat, seek, statat};
use rustix::io::Errno;

use crate::handles;

/// How much of a directory is read at once, and kept: at least fourteen names.
const PIECE: usize = 4 << 10;

/// A directory that is being listed.
pub(super) struct Names {
    dir: OwnedFd,
    /// What was read of it and not given out yet.
    read: VecDeque<Name>,
}

/// A name in a directory.
pub(super) struct Name {
    name: CString,
    kind: FileType,
    /// Where a list goes on after it, in the file system's own terms.
    pub(super) next: u64,
}

impl Names {
    /// Begins with a directory.
    ///
    /// # Errors
    /// Fails if it may not be read.
    pub(super) fn of(dir: impl AsFd) -> io::Result<Names> {
        Ok(Names { dir: handles::open_to_list(dir)?, read: VecDeque::new() })
    }

    /// Goes on where another list got to.
    ///
    /// # Errors
    /// Fails where no list can get to.
    pub(super) fn go_on_at(&mut self, next: u64) -> io::Result<()> {
        self.read.clear();
        seek(&self.dir, SeekFrom::Start(next))?;
        Ok(())
    }

    /// The next name, `.` and `..` among them; none at the end.
    ///
    /// # Errors
    /// Fails if the directory cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Name>> {
        if self.read.is_empty() {
            let mut piece = [MaybeUninit::uninit(); PIECE];
            let mut entries = RawDir::new(&self.dir, &mut piece);
            while let Some(entry) = entries.next() {
                let entry = entry?;
                self.read.push_back(Name {
                    name: entry.file_name().to_owned(),
                    kind: entry.file_type(),
                    next: entry.next_entry_cookie(),
                });
                if entries.is_buffer_empty() {
                    break;
                }
            }
        }
        Ok(self.read.pop_front())
    }

    /// The next name that is not the directory's own or its parent's, and what it is of; none at the end.
    ///
    /// # Errors
    /// Fails if the directory cannot be read, and where a name is no text.
    pub(super) fn next_child(&mut self) -> io::Result<Option<(String, FileType)>> {
        while let Some(name) = self.next()? {
            if name.is_child()
                && let Some(kind) = self.kind(&name)?
            {
                return Ok(Some((name.text()?, kind)));
            }
        }
        Ok(None)
    }

    /// What a name is of; none if it is not there any more.
    fn kind(&self, name: &Name) -> io::Result<Option<FileType>> {
        match name.kind {
            // Not every file system says it with the name.
            FileType::Unknown => {
                Ok(self.look_at(name)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
            }
            kind => Ok(Some(kind)),
        }
    }

    /// What is behind a name, links not followed; nothing if it is not there any more.
    ///
    /// # Errors
    /// Fails if it cannot be told.
    pub(super) fn look_at(&self, name: &Name) -> io::Result<Option<Stat>> {
        match statat(&self.dir, &name.name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Name {
    /// Whether it is neither the directory's own name nor its parent's.
    fn is_child(&self) -> bool {
        ![c".", c".."].contains(&self.name.as_c_str())
    }

    /// The name as text.
    ///
    /// # Errors
    /// Fails if it is none.
    pub(super) fn text(self) -> io::Result<String> {
        self.name.into_string().map_err(|_| Errno::ILSEQ.into())
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

    fn names_of(folder: &tempfile::TempDir) -> Names {
        Names::of(File::open(folder.path()).unwrap()).unwrap()
    }

    #[test]
    fn every_name_comes_once_and_little_is_kept() {
        let (folder, all) = folder((0..2_000).map(|number| format!("{number:0>200}")));
        let (mut names, mut seen, mut kept) = (names_of(&folder), Vec::new(), 0);
        while let Some((name, kind)) = names.next_child().unwrap() {
            assert_eq!(kind, FileType::RegularFile);
            seen.push(name);
            kept = kept.max(names.read.len());
        }
        assert_eq!(seen.len(), all.len());
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);
        assert!(kept < PIECE / 200, "{kept} names at once");
    }

    #[test]
    fn a_list_goes_on_where_another_got_to() {
        let (folder, all) = folder((0..300).map(|number| number.to_string()));
        let (mut names, mut seen) = (names_of(&folder), Vec::new());
        while let Some(name) = names.next().unwrap() {
            let next = name.next;
            seen.push(name.text().unwrap());
            names = names_of(&folder);
            names.go_on_at(next).unwrap();
        }
        assert_eq!(seen.len(), all.len() + 2);
        assert!(
            seen.iter()
                .filter(|name| name.as_str() != "." && name.as_str() != "..")
                .eq(seen.iter().filter(|name| all.contains(*name)))
        );
    }

    #[test]
    fn a_name_that_is_no_text_is_an_error_and_what_is_gone_is_passed_over() {
        use std::os::unix::ffi::OsStrExt;
        let (folder, _) = folder(["gone".to_owned()]);
        let mut names = names_of(&folder);
        let name = std::iter::from_fn(|| names.next().unwrap()).find(Name::is_child).unwrap();
        std::fs::remove_file(folder.path().join("gone")).unwrap();
        assert!(names.look_at(&name).unwrap().is_none());
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let error = names_of(&folder).next_child().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EILSEQ));
    }
}
