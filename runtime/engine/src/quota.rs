//! Accounts for what a container writes to its directories, and refuses what is over the limit.
//!
//! Counted is how much files grow, and how many names are made, as a file system's own quotas do: a
//! folder or an empty file has no length and takes space all the same. A write is charged before it
//! happens; when a limit is reached, what was deleted in the meantime is found out and given back,
//! so that rotating logs in a small scratch space goes on for ever. `hooks` calls this on every path
//! that writes.

use std::collections::{HashMap, hash_map};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::Dir;
use mote_spec::{Access, Bytes, Limit};

use crate::alive::{Alive, FileKey, Taken, key_in_dir, key_of, own_files};
use crate::gauge::Gauge;
use crate::handles::OpenDir;
use crate::looks::Looks;

/// How many files a container may have written to and kept.
const MOST_FILES: usize = 65_536;
/// How many names may be made whatever the limit is, and how many bytes of a limit allow one more.
const FREE_NAMES: u64 = 256;
const BYTES_PER_NAME: u64 = 4096;

fn most_names(most: u64) -> u64 {
    (most / BYTES_PER_NAME).saturating_add(FREE_NAMES)
}

pub(crate) struct Quota {
    most: u64,
    areas: Vec<Area>,
    /// What this process has open, whatever it may open later.
    own_files: File,
    gauge: Arc<Gauge>,
    books: Mutex<Books>,
    looks: Looks,
}

/// A directory that the guest may write to.
struct Area {
    most: u64,
    handle: File,
}

/// What was charged.
#[derive(Default, Clone, Copy)]
struct Charged {
    bytes: u64,
    names: u64,
}

#[derive(Default)]
struct Books {
    total: Charged,
    by_area: Vec<Charged>,
    files: HashMap<FileKey, Entry>,
}

struct Entry {
    area: usize,
    charged: Charged,
    /// How long the file is, or will be when the writes that were allowed have happened.
    length: u64,
    /// What of that is to be appended by writes that may not have happened yet.
    appending: u64,
}

/// A write that is about to happen.
enum Write {
    /// It ends at this byte.
    Ends(u64),
    /// It puts so many bytes behind the end.
    Appends(u64),
}

/// Leave to make one name. Whoever drops it does not know how the attempt ended, so that it stays
/// charged.
#[must_use]
pub(crate) struct NewName {
    quota: Arc<Quota>,
    area: usize,
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
        let books = Books { by_area: vec![Charged::default(); areas.len()], ..Books::default() };
        let most = most.bound().map_or(u64::MAX, Bytes::get);
        Ok(Some(Arc::new(Quota {
            most,
            areas,
            own_files: own_files()?,
            gauge,
            books: Mutex::new(books),
            looks: Looks::default(),
        })))
    }

    /// Charges for a write that ends at byte `end` of a file, or for a new length of it. What a file
    /// loses is given back when it is closed: until then a write that was allowed may be under way.
    ///
    /// # Errors
    /// `ENOSPC` if a limit would be passed; nothing is charged then, and nothing may be written.
    pub(crate) fn charge(&self, file: &Arc<File>, end: u64) -> io::Result<()> {
        self.settle(file, Write::Ends(end))
    }

    /// Charges for a write of so many bytes behind the end of a file.
    pub(crate) fn charge_append(&self, file: &Arc<File>, bytes: u64) -> io::Result<()> {
        self.settle(file, Write::Appends(bytes))
    }

    /// Charges for a name that is about to be made below a directory; `None` where names are free.
    ///
    /// # Errors
    /// `ENOSPC` if there may be no more.
    pub(crate) fn name(self: &Arc<Quota>, dir: &File) -> io::Result<Option<NewName>> {
        let area = self.area_of(dir).ok_or_else(no_space)?;
        if !self.is_bounded(area) {
            return Ok(None);
        }
        let one = Charged { bytes: 0, names: 1 };
        let mut books = self.books();
        self.make_place(&mut books, None)?;
        self.make_room(&mut books, area, one)?;
        books.take(area, one);
        Ok(Some(NewName { quota: Arc::clone(self), area }))
    }

    /// Whether anything bounds what is written to an area.
    fn is_bounded(&self, area: usize) -> bool {
        self.most != u64::MAX || self.areas[area].most != u64::MAX
    }

    fn settle(&self, file: &Arc<File>, write: Write) -> io::Result<()> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(());
        }
        let key = key_of(&found);
        let mut books = self.books();
        self.make_place(&mut books, Some(&key))?;
        let entry = match books.files.entry(key) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(place) => {
                // What cannot be told where it belongs is not written to.
                let area = self.area_of(file).ok_or_else(no_space)?;
                if !self.is_bounded(area) {
                    return Ok(());
                }
                place.insert(Entry {
                    area,
                    charged: Charged::default(),
                    length: found.len(),
                    appending: 0,
                })
            }
        };
        let length = entry.length.max(found.len());
        // What was to be appended lands behind whatever is there by then.
        let appending = if found.len() >= entry.length { 0 } else { entry.appending };
        let (end, appending) = match write {
            Write::Ends(end) => (end.max(found.len()).saturating_add(appending), appending),
            Write::Appends(bytes) => {
                (length.saturating_add(bytes), appending.saturating_add(bytes))
            }
        };
        let area = entry.area;
        let growth = Charged { bytes: end.saturating_sub(length), names: 0 };
        self.make_room(&mut books, area, growth)?;
        let entry = books.files.get_mut(&key).expect("an open file keeps its entry");
        entry.charged.bytes += growth.bytes;
        entry.length = length.max(end);
        entry.appending = appending;
        books.take(area, growth);
        self.show(&books);
        Ok(())
    }

    /// Sees to it that so much more fits.
    fn make_room(&self, books: &mut Books, area: usize, more: Charged) -> io::Result<()> {
        if !self.fits(books, area, more) {
            self.find_deleted(books);
        }
        if self.fits(books, area, more) { Ok(()) } else { Err(no_space()) }
    }

    /// Sees to it that one more file can be kept account of.
    fn make_place(&self, books: &mut Books, key: Option<&FileKey>) -> io::Result<()> {
        let full = |books: &Books| books.files.len() >= MOST_FILES;
        if full(books) && !key.is_some_and(|key| books.files.contains_key(key)) {
            self.find_deleted(books);
            if full(books) {
                return Err(no_space());
            }
        }
        Ok(())
    }

    fn fits(&self, books: &Books, area: usize, more: Charged) -> bool {
        let fits = |used: Charged, most: u64| {
            used.bytes.saturating_add(more.bytes) <= most
                && used.names.saturating_add(more.names) <= most_names(most)
        };
        fits(books.by_area[area], self.areas[area].most) && fits(books.total, self.most)
    }

    /// Gives back what was charged for files that are neither open nor anywhere below the
    /// container's directories any more, and for what others lost of their length and their names.
    fn find_deleted(&self, books: &mut Books) {
        // What has gone to where nothing is bounded is as good as deleted.
        let bounded = (0..self.areas.len()).filter(|area| self.is_bounded(*area));
        let dirs = bounded.map(|area| &self.areas[area].handle);
        let looked = self.looks.look(|| Alive::look(dirs, &self.own_files));
        let Some(alive) = looked else { return };
        let mut back = Vec::new();
        books.files.retain(|key, entry| {
            if alive.is_open(key) {
                return true;
            }
            let found = alive.taken(key);
            let Taken { length, names } = found.unwrap_or_default();
            let given = Charged {
                bytes: entry.charged.bytes.saturating_sub(length),
                names: entry.charged.names.saturating_sub(names),
            };
            entry.charged.bytes -= given.bytes;
            entry.charged.names -= given.names;
            entry.length = length;
            back.push((entry.area, given));
            found.is_some()
        });
        for (area, given) in back {
            books.give_back(area, given);
        }
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
        self.gauge.stored.store(books.total.bytes, Ordering::Relaxed);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn take(&mut self, area: usize, more: Charged) {
        for used in [&mut self.total, &mut self.by_area[area]] {
            used.bytes += more.bytes;
            used.names += more.names;
        }
    }

    fn give_back(&mut self, area: usize, less: Charged) {
        for used in [&mut self.total, &mut self.by_area[area]] {
            used.bytes = used.bytes.saturating_sub(less.bytes);
            used.names = used.names.saturating_sub(less.names);
        }
    }
}

impl NewName {
    /// Gives the leave back: the attempt failed.
    pub(crate) fn unused(self) {
        self.quota.books().give_back(self.area, Charged { bytes: 0, names: 1 });
    }

    /// Notes what was made under a path below a directory.
    pub(crate) fn made(self, dir: &File, path: &str) {
        let found = dir
            .try_clone()
            .and_then(|dir| Dir::from_std_file(dir).symlink_metadata(path))
            .map(|found| (key_in_dir(&found), found.len()));
        // What has gone or moved already stays charged, since nobody can tell which it was.
        let Ok((key, length)) = found else { return };
        let fresh = Entry { area: self.area, charged: Charged::default(), length, appending: 0 };
        self.quota.books().files.entry(key).or_insert(fresh).charged.names += 1;
    }

    /// Notes the file that was made because it was not there; somebody may have been quicker.
    pub(crate) fn opened(self, file: &File) {
        let Ok(found) = file.metadata() else { return };
        if let hash_map::Entry::Vacant(place) = self.quota.books().files.entry(key_of(&found)) {
            let charged = Charged { bytes: 0, names: 1 };
            place.insert(Entry { area: self.area, charged, length: found.len(), appending: 0 });
            return;
        }
        self.unused();
    }
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
    fn names_are_bounded_and_given_back() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=4096"]);
        let area = File::open(fixture.folder.path().join("0")).unwrap();
        let make = |name: &str| {
            let leave = fixture.quota.name(&area)?.unwrap();
            fs::create_dir(fixture.folder.path().join("0").join(name))?;
            leave.made(&area, name);
            io::Result::Ok(())
        };
        for number in 0..FREE_NAMES + 1 {
            make(&number.to_string()).unwrap();
        }
        assert!(make("more").is_err());
        fs::remove_dir(fixture.folder.path().join("0/7")).unwrap();
        make("7").unwrap();
        assert!(make("more").is_err());
    }

    #[test]
    fn a_name_that_was_not_made_is_not_charged() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=4096"]);
        let area = File::open(fixture.folder.path().join("0")).unwrap();
        let name = || fixture.quota.name(&area).unwrap().unwrap();
        for _ in 0..2 * FREE_NAMES {
            name().unused();
            name().opened(&fixture.file("0/same"));
        }
    }

    #[test]
    fn what_a_file_lost_is_given_back_when_it_is_closed() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=10"]);
        let file = fixture.file("0/x");
        fixture.append(&file, 10).unwrap();
        assert!(fixture.quota.charge(&file, 11).is_err());
        fixture.quota.charge(&file, 4).unwrap();
        file.set_len(4).unwrap();
        assert!(fixture.append(&fixture.file("0/y"), 1).is_err(), "a write may be under way");
        drop(file);
        fixture.append(&fixture.file("0/y"), 6).unwrap();
        assert!(fixture.append(&fixture.file("0/y"), 1).is_err());
    }

    #[test]
    fn a_directory_without_a_bound_stands_in_nobodys_way() {
        let fixture = fixture(Limit::Unlimited, &["/a:size=10"]);
        let folder = tempfile::tempdir().unwrap();
        let grant = format!("{}:/v", folder.path().canonicalize().unwrap().display());
        let grants = Grants { dirs: vec![grant.parse().unwrap()], ..Grants::default() };
        let free = handles::open(&grants, None, None, None).unwrap().dirs.remove(0);
        let bounded = OpenDir::reopened(&fixture.quota.areas[0].handle, Bytes::new(10));
        let dirs = [free, bounded];
        let quota = Quota::new(Limit::Unlimited, &dirs, Arc::default()).unwrap().unwrap();
        let big = Arc::new(File::create(folder.path().join("big")).unwrap());
        quota.charge(&big, 1 << 40).unwrap();
        assert!(quota.name(&File::open(folder.path()).unwrap()).unwrap().is_none());
        assert!(quota.books().files.is_empty(), "nothing is kept about it");
        let file = fixture.file("0/x");
        assert!(quota.charge(&file, 11).is_err());
        quota.charge(&file, 10).unwrap();
    }
}
