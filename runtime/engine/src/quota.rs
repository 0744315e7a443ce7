//! Accounts for what a container writes to its directories, and refuses what is over the limit.
//!
//! Counted is how much files grow. A write is charged before it happens; when a limit is reached,
//! what was deleted in the meantime is found out and given back, so that rotating logs in a small
//! scratch space goes on for ever. `hooks` calls this on every path that writes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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

pub(crate) struct Quota {
    most: u64,
    areas: Vec<Area>,
    gauge: Arc<Gauge>,
    books: Mutex<Books>,
}

/// A directory that the guest may write to.
struct Area {
    path: PathBuf,
    most: u64,
    handle: File,
}

#[derive(Default)]
struct Books {
    total: u64,
    by_area: Vec<u64>,
    files: HashMap<(u64, u64), Entry>,
}

struct Entry {
    area: Option<usize>,
    /// What this file was charged.
    charged: u64,
    /// How long the file is, or will be when the writes that were allowed have happened.
    length: u64,
    open: Weak<File>,
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
            let path = fs::read_link(dir.path())?;
            let most = dir.budget.map_or(u64::MAX, |budget| budget.most);
            areas.push(Area { path, most, handle: dir.open_again()? });
        }
        // The innermost directory is the one that counts.
        areas.sort_by_key(|area| std::cmp::Reverse(area.path.as_os_str().len()));
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
        let Some(entry) = books.files.get_mut(&(found.dev(), found.ino())) else { return Ok(()) };
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
        let key = (found.dev(), found.ino());
        let mut books = self.books();
        let entry = books.files.entry(key).or_insert_with(|| Entry {
            area: self.area_of(file),
            charged: 0,
            length: found.len(),
            open: Arc::downgrade(file),
        });
        if entry.open.strong_count() == 0 {
            // Nobody had it open, so nothing is on its way: the file is as long as it looks. It may
            // also be a new file that got the number of one that is gone.
            let given = entry.charged.saturating_sub(found.len());
            (entry.charged, entry.length) = (entry.charged - given, found.len());
            let area = entry.area;
            books.give_back(area, given);
        }
        let entry = books.files.get_mut(&key).expect("the entry is still there");
        entry.open = Arc::downgrade(file);
        let length = entry.length.max(found.len());
        let (area, end) = (entry.area, end(length));
        let growth = end.saturating_sub(length);
        if !self.fits(&books, area, growth) {
            self.find_deleted(&mut books);
            if !self.fits(&books, area, growth) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
            }
        }
        let entry = books.files.get_mut(&key).expect("an open file keeps its entry");
        entry.charged += growth;
        entry.length = length.max(end);
        books.total += growth;
        if let Some(area) = area {
            books.by_area[area] += growth;
        }
        self.show(&books);
        Ok(())
    }

    fn fits(&self, books: &Books, area: Option<usize>, growth: u64) -> bool {
        let in_area = area
            .is_none_or(|area| books.by_area[area].saturating_add(growth) <= self.areas[area].most);
        in_area && books.total.saturating_add(growth) <= self.most
    }

    /// Gives back what was charged for files that are neither open nor anywhere below the
    /// container's directories any more.
    fn find_deleted(&self, books: &mut Books) {
        let mut alive = HashMap::new();
        for area in &self.areas {
            let path = PathBuf::from(format!("/proc/self/fd/{}", area.handle.as_raw_fd()));
            if !collect(&path, &mut alive) {
                // Too many to look at: nothing is known to be gone.
                return;
            }
        }
        let gone = |key: &(u64, u64), entry: &Entry| {
            !alive.contains_key(key) && entry.open.strong_count() == 0
        };
        let lost: Vec<(u64, u64)> = books
            .files
            .iter()
            .filter(|(key, entry)| gone(key, entry))
            .map(|(key, _)| *key)
            .collect();
        for key in lost {
            if let Some(entry) = books.files.remove(&key) {
                books.give_back(entry.area, entry.charged);
            }
        }
        let shrunk: Vec<(Option<usize>, u64)> = books
            .files
            .iter_mut()
            .filter(|(_, entry)| entry.open.strong_count() == 0)
            .filter_map(|(key, entry)| {
                let length = *alive.get(key)?;
                let given = entry.charged.saturating_sub(length);
                (entry.charged, entry.length) = (entry.charged - given, length);
                Some((entry.area, given))
            })
            .collect();
        for (area, given) in shrunk {
            books.give_back(area, given);
        }
    }

    fn area_of(&self, file: &File) -> Option<usize> {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        self.areas.iter().position(|area| path.starts_with(&area.path))
    }

    fn show(&self, books: &Books) {
        self.gauge.stored.store(books.total, Ordering::Relaxed);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn give_back(&mut self, area: Option<usize>, bytes: u64) {
        self.total = self.total.saturating_sub(bytes);
        if let Some(area) = area {
            self.by_area[area] = self.by_area[area].saturating_sub(bytes);
        }
    }
}

/// Collects the files below a folder with their lengths; false if there are too many.
fn collect(folder: &Path, into: &mut HashMap<(u64, u64), u64>) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    for entry in entries.flatten() {
        let Ok(found) = entry.metadata() else { continue };
        if into.len() >= MOST_LOOKED_AT || (found.is_dir() && !collect(&entry.path(), into)) {
            return false;
        }
        if found.is_file() {
            into.insert((found.dev(), found.ino()), found.len());
        }
    }
    true
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
