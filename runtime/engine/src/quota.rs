//! Accounts for what a container writes to its directories, and refuses what is over the limit.
//!
//! Counted is how much files grow. A write is charged before it happens; when a limit is reached,
//! what was deleted in the meantime is found out and given back, so that rotating logs in a small
//! scratch space goes on for ever. `hooks` calls this on every path that writes.

use std::collections::{HashMap, HashSet, hash_map};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mote_spec::{Access, Bytes, Limit};

use crate::handles::OpenDir;
use crate::limiter::Gauge;

/// What may be written below one directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    most: u64,
}

impl Budget {
    pub(crate) fn new(most: Bytes) -> Budget {
        Budget { most: most.get() }
    }
}

/// How many files are looked at to find what was deleted.
const MOST_LOOKED_AT: usize = 100_000;
/// How many files a container may have written to and kept.
const MOST_FILES: usize = 65_536;

/// What tells a file from every other, also from a later one with the same number.
type FileKey = (u64, u64, Option<SystemTime>);

fn key_of(found: &Metadata) -> FileKey {
    (found.dev(), found.ino(), found.created().ok())
}

pub(crate) struct Quota {
    most: u64,
    areas: Vec<Area>,
    gauge: Arc<Gauge>,
    books: Mutex<Books>,
}

/// A directory that the guest may write to.
struct Area {
    most: u64,
    handle: File,
}

#[derive(Default)]
struct Books {
    total: u64,
    by_area: Vec<u64>,
    files: HashMap<FileKey, Entry>,
}

struct Entry {
    area: usize,
    /// What this file was charged.
    charged: u64,
    /// How long the file is, or will be when the writes that were allowed have happened.
    length: u64,
}

impl Quota {
    /// The quota of a container; `None` if nothing that it may write to has a bound.
    pub(crate) fn new(
        most: Limit<Bytes>,
        dirs: &[OpenDir],
        gauge: Arc<Gauge>,
    ) -> io::Result<Option<Arc<Quota>>> {
        let bounded = most.bound().is_some() || dirs.iter().any(|dir| dir.budget.is_some());
        if !bounded {
            return Ok(None);
        }
        let mut areas = Vec::new();
        for dir in dirs.iter().filter(|dir| dir.access == Access::ReadWrite) {
            let most = dir.budget.map_or(u64::MAX, |budget| budget.most);
            areas.push(Area { most, handle: dir.open_again()? });
        }
        let books = Books { by_area: vec![0; areas.len()], ..Books::default() };
        let most = most.bound().map_or(u64::MAX, Bytes::get);
        Ok(Some(Arc::new(Quota { most, areas, gauge, books: Mutex::new(books) })))
    }

    /// Charges for a write that ends at byte `end` of a file.
    ///
    /// # Errors
    /// `ENOSPC` if a limit would be passed; nothing is charged then, and nothing may be written.
    pub(crate) fn charge(&self, file: &Arc<File>, end: u64) -> io::Result<()> {
        self.settle(file, |_| end)
    }

    /// Charges for a write of so many bytes behind the end of a file.
    pub(crate) fn charge_append(&self, file: &Arc<File>, bytes: u64) -> io::Result<()> {
        self.settle(file, |length| length.saturating_add(bytes))
    }

    /// Charges for, or credits, a new length of a file.
    pub(crate) fn resize(&self, file: &Arc<File>, length: u64) -> io::Result<()> {
        self.settle(file, |_| length)?;
        let found = file.metadata()?;
        let mut books = self.books();
        let Some(entry) = books.files.get_mut(&key_of(&found)) else { return Ok(()) };
        let given = entry.charged.saturating_sub(length);
        (entry.charged, entry.length) = (entry.charged - given, length);
        let area = entry.area;
        books.give_back(area, given);
        self.show(&books);
        Ok(())
    }

    fn settle(&self, file: &Arc<File>, end: impl Fn(u64) -> u64) -> io::Result<()> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(());
        }
        let key = key_of(&found);
        let mut books = self.books();
        if books.files.len() >= MOST_FILES && !books.files.contains_key(&key) {
            self.find_deleted(&mut books);
            if books.files.len() >= MOST_FILES {
                return Err(no_space());
            }
        }
        let entry = match books.files.entry(key) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(place) => {
                // What cannot be told where it belongs is not written to.
                let area = self.area_of(file).ok_or_else(no_space)?;
                place.insert(Entry { area, charged: 0, length: found.len() })
            }
        };
        let length = entry.length.max(found.len());
        let (area, end) = (entry.area, end(length));
        let growth = end.saturating_sub(length);
        if !self.fits(&books, area, growth) {
            self.find_deleted(&mut books);
            if !self.fits(&books, area, growth) {
                return Err(no_space());
            }
        }
        let entry = books.files.get_mut(&key).expect("an open file keeps its entry");
        entry.charged += growth;
        entry.length = length.max(end);
        books.total += growth;
        books.by_area[area] += growth;
        self.show(&books);
        Ok(())
    }

    fn fits(&self, books: &Books, area: usize, growth: u64) -> bool {
        books.by_area[area].saturating_add(growth) <= self.areas[area].most
            && books.total.saturating_add(growth) <= self.most
    }

    /// Gives back what was charged for files that are neither open nor anywhere below the
    /// container's directories any more, and for what others lost of their length.
    ///
    /// Looks twice, since a rename that is under way may carry a file past one look. What cannot be
    /// looked at in full counts as still there.
    fn find_deleted(&self, books: &mut Books) {
        let (Some(first), Some(mut alive)) = (self.look(), self.look()) else { return };
        for (key, length) in first {
            let seen = alive.entry(key).or_insert(length);
            *seen = length.max(*seen);
        }
        let open = open_files();
        let mut back = Vec::new();
        books.files.retain(|key, entry| {
            if open.contains(key) {
                return true;
            }
            let length = alive.get(key).copied();
            let given = entry.charged.saturating_sub(length.unwrap_or(0));
            (entry.charged, entry.length) = (entry.charged - given, length.unwrap_or(0));
            back.push((entry.area, given));
            length.is_some()
        });
        for (area, given) in back {
            books.give_back(area, given);
        }
    }

    /// Every file below the container's directories, with its length; `None` if that is not to be
    /// found out.
    fn look(&self) -> Option<HashMap<FileKey, u64>> {
        let mut found = HashMap::new();
        for area in &self.areas {
            let path = PathBuf::from(format!("/proc/self/fd/{}", area.handle.as_raw_fd()));
            collect(&path, &mut found)?;
        }
        Some(found)
    }

    /// The innermost directory that a file is in, by their names at this moment.
    fn area_of(&self, file: &File) -> Option<usize> {
        let path_of =
            |file: &File| fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        let path = path_of(file)?;
        let inside = |(number, area): (usize, &Area)| {
            let folder = path_of(&area.handle)?;
            path.starts_with(&folder).then_some((folder.as_os_str().len(), number))
        };
        self.areas.iter().enumerate().filter_map(inside).max().map(|(_, number)| number)
    }

    fn show(&self, books: &Books) {
        self.gauge.stored.store(books.total, Ordering::Relaxed);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn give_back(&mut self, area: usize, bytes: u64) {
        self.total = self.total.saturating_sub(bytes);
        self.by_area[area] = self.by_area[area].saturating_sub(bytes);
    }
}

/// Collects the files below a folder with their lengths; `None` if some could not be looked at.
fn collect(folder: &Path, into: &mut HashMap<FileKey, u64>) -> Option<()> {
    for entry in fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        let found = entry.metadata().ok()?;
        if into.len() >= MOST_LOOKED_AT {
            return None;
        }
        if found.is_dir() {
            collect(&entry.path(), into)?;
        } else if found.is_file() {
            into.insert(key_of(&found), found.len());
        }
    }
    Some(())
}

/// The files that this process has open, by whatever handle: they take space without a name, too.
fn open_files() -> HashSet<FileKey> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::metadata(entry.path()).ok())
        .map(|found| key_of(&found))
        .collect()
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handles;
    use mote_spec::Grants;
    use std::io::Write;

    struct Fixture {
        folder: tempfile::TempDir,
        quota: Arc<Quota>,
        gauge: Arc<Gauge>,
    }

    fn fixture(storage: Limit<Bytes>, scratch: &[&str]) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let grants = Grants {
            scratch: scratch.iter().map(|text| text.parse().unwrap()).collect(),
            ..Grants::default()
        };
        let handles = handles::open(&grants, None, Some(folder.path()), None).unwrap();
        let gauge = Arc::new(Gauge::default());
        let quota = Quota::new(storage, &handles.dirs, Arc::clone(&gauge)).unwrap().unwrap();
        Fixture { folder, quota, gauge }
    }

    impl Fixture {
        fn file(&self, name: &str) -> Arc<File> {
            let path = self.folder.path().join(name);
            Arc::new(File::options().create(true).append(true).open(path).unwrap())
        }

        fn append(&self, file: &Arc<File>, bytes: u64) -> io::Result<()> {
            self.quota.charge_append(file, bytes)?;
            (&**file).write_all(&vec![0; bytes as usize])
        }
    }

    #[test]
    fn writes_beyond_the_limit_are_refused_and_overwriting_is_free() {
        let fixture = fixture(Limit::AtMost(Bytes::new(100)), &["/a", "/b"]);
        let (a, b) = (fixture.file("0/x"), fixture.file("1/y"));
        fixture.append(&a, 60).unwrap();
        fixture.quota.charge(&a, 60).unwrap();
        assert!(fixture.append(&b, 41).is_err(), "all directories share the total");
        fixture.append(&b, 40).unwrap();
        assert!(fixture.append(&a, 1).is_err());
        assert_eq!(fixture.gauge.stored.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn each_scratch_space_has_its_own_size() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=10", "/b:size=20"]);
        let (a, b) = (fixture.file("0/x"), fixture.file("1/y"));
        assert!(fixture.append(&a, 11).is_err());
        fixture.append(&a, 10).unwrap();
        fixture.append(&b, 20).unwrap();
        assert!(fixture.append(&b, 1).is_err());
    }

    #[test]
    fn what_is_deleted_is_given_back_and_what_is_only_unlinked_is_not() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=10"]);
        for round in 0..5 {
            let file = fixture.file(&format!("0/{round}"));
            fixture.append(&file, 10).unwrap();
            fs::remove_file(fixture.folder.path().join(format!("0/{round}"))).unwrap();
            let next = fixture.file("0/next");
            assert!(fixture.append(&next, 1).is_err(), "an open file still takes space");
            drop(file);
        }
    }

    #[test]
    fn a_second_handle_keeps_a_deleted_file_on_the_bill() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=10"]);
        let path = fixture.folder.path().join("0/x");
        let first = fixture.file("0/x");
        fixture.append(&first, 10).unwrap();
        let _reader = File::open(&path).unwrap();
        drop(first);
        fs::remove_file(&path).unwrap();
        assert!(fixture.append(&fixture.file("0/next"), 1).is_err());
    }

    #[test]
    fn a_file_that_is_too_deep_to_be_seen_is_not_written_to() {
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        let fixture = fixture(Limit::Unlimited, &["/a:size=10"]);
        let mut dir =
            std::os::fd::OwnedFd::from(File::open(fixture.folder.path().join("0")).unwrap());
        let name = "d".repeat(200);
        for _ in 0..30 {
            mkdirat(&dir, &name, Mode::RWXU).unwrap();
            dir = openat(&dir, &name, OFlags::RDONLY, Mode::empty()).unwrap();
        }
        let deep =
            openat(&dir, "x", OFlags::CREATE | OFlags::RDWR | OFlags::APPEND, Mode::RWXU).unwrap();
        let deep = Arc::new(File::from(deep));
        assert!(fixture.append(&deep, 1).is_err(), "nobody can tell where it belongs");
    }

    #[test]
    fn a_shorter_file_takes_less() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=10"]);
        let file = fixture.file("0/x");
        fixture.append(&file, 10).unwrap();
        assert!(fixture.quota.resize(&file, 11).is_err());
        fixture.quota.resize(&file, 4).unwrap();
        file.set_len(4).unwrap();
        fixture.append(&file, 6).unwrap();
        assert!(fixture.append(&file, 1).is_err());
    }
}
