//! Bounds on what an image, an archive or a copy from outside may make of this machine.
//!
//! Every way in (pulled layers, `load`, `oci:`, `docker-archive:`, `cp`) takes from one [`Budget`] before
//! it writes or remembers anything. An archive is read through a [`Bounded`] reader, which counts bytes, and
//! its entries are taken by [`Budget::next_entry`], which counts entries and bounds what the `tar` crate
//! reads into memory on the way to one: a long name or an extended header of a hostile archive is as
//! long as it says. Reading such a record through a second pass would not do, since an extended header may
//! move the place of the next one, and the two passes would then see different archives.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::statvfs;

/// Folders that a path may lead through, links resolved: more than any program's files have, and few enough
/// that every walk over them stays short.
pub const MAX_DEPTH: usize = 256;
/// Bytes that all parts of an image together may unpack to.
const MAX_BYTES: u64 = 8 << 30;
/// Unpacked bytes for each packed one, above [`RATIO_FREE`]: what packs better than any program is made to
/// fill disks.
const MAX_RATIO: u64 = 200;
/// Bytes to which anything may unpack, however small it is packed.
const RATIO_FREE: u64 = 16 << 20;
/// Files, folders and links, those included that a path only implies.
const MAX_ENTRIES: u64 = 500_000;
/// Bytes that one entry takes of a disk beside its content.
const ENTRY_BYTES: u64 = 4 << 10;
/// Memory for names while an archive is read.
const MAX_NAMES: u64 = 32 << 20;
/// Memory that a name takes beside its bytes.
const NAME_BYTES: u64 = 64;
/// Bytes of headers, long names and extended headers before one entry.
const MAX_RECORDS: u64 = 256 << 10;
/// Bytes of a disk that stay free for the records of containers.
const DISK_RESERVE: u64 = 4 << 20;

/// A bound that something from outside does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverBudget {
    #[error("it unpacks to more than {most} bytes, {MAX_RATIO} times its packed size")]
    Ratio { most: u64 },
    #[error("it unpacks to more than {MAX_BYTES} bytes")]
    Bytes,
    #[error("it unpacks to more than the {free} bytes that the disk has free")]
    Space { free: u64 },
    #[error("it has more than {MAX_ENTRIES} entries")]
    Entries,
    #[error("its names take more than {MAX_NAMES} bytes of memory")]
    Names,
    #[error("a name in it is longer than any file's")]
    LongName,
    #[error("it has folders more than {MAX_DEPTH} deep")]
    Depth,
}

impl From<OverBudget> for io::Error {
    fn from(error: OverBudget) -> io::Error {
        io::Error::new(io::ErrorKind::FileTooLarge, error)
    }
}

/// Counters of what is left, shared by the reader of an archive and by what unpacks it.
#[derive(Debug)]
pub struct Budget {
    bytes: Cell<u64>,
    entries: Cell<u64>,
    names: Cell<u64>,
    /// Bytes that may be read before the next entry; unlimited while its content is read.
    records: Cell<u64>,
    /// The bound that `bytes` began as.
    exceeded: OverBudget,
}

impl Budget {
    /// A budget for something of so many packed bytes, which is unpacked on the disk of `folder`.
    pub fn for_packed(packed: u64, folder: &Path) -> Budget {
        let most = packed.saturating_mul(MAX_RATIO).saturating_add(RATIO_FREE);
        let free = free_space(folder).unwrap_or(u64::MAX).saturating_sub(DISK_RESERVE);
        let bounds = [
            (most, OverBudget::Ratio { most }),
            (MAX_BYTES, OverBudget::Bytes),
            (free, OverBudget::Space { free }),
        ];
        Budget::within(&bounds, folder)
    }

    /// A budget for a stream whose packed size nobody knows: what the disk has free bounds it.
    pub fn for_stream(folder: &Path) -> Budget {
        Budget::within(&[], folder)
    }

    fn within(bounds: &[(u64, OverBudget)], folder: &Path) -> Budget {
        let free = free_space(folder).unwrap_or(u64::MAX);
        let space = (free, OverBudget::Space { free });
        let least = bounds
            .iter()
            .copied()
            .fold(space, |one, other| if other.0 < one.0 { other } else { one });
        let (bytes, exceeded) = least;
        Budget {
            bytes: Cell::new(bytes),
            entries: Cell::new(MAX_ENTRIES),
            names: Cell::new(MAX_NAMES),
            records: Cell::new(u64::MAX),
            exceeded,
        }
    }

    /// Takes bytes that are written or read.
    ///
    /// # Errors
    /// Fails when too few are left.
    pub fn take_bytes(&self, count: u64) -> Result<(), OverBudget> {
        let left = self.bytes.get().checked_sub(count).ok_or(self.exceeded)?;
        self.bytes.set(left);
        Ok(())
    }

    /// Takes one entry, and the space that it has on a disk.
    ///
    /// # Errors
    /// Fails when none, or no space, is left.
    pub fn take_entry(&self) -> Result<(), OverBudget> {
        let left = self.entries.get().checked_sub(1).ok_or(OverBudget::Entries)?;
        self.entries.set(left);
        self.take_bytes(ENTRY_BYTES)
    }

    /// Takes one look at an entry that is there already.
    ///
    /// # Errors
    /// Fails when none is left.
    pub fn take_look(&self) -> Result<(), OverBudget> {
        let left = self.entries.get().checked_sub(1).ok_or(OverBudget::Entries)?;
        self.entries.set(left);
        Ok(())
    }

    /// Takes the memory of a name that is remembered.
    ///
    /// # Errors
    /// Fails when too little is left.
    pub fn take_name(&self, name: &Path) -> Result<(), OverBudget> {
        let length = name.as_os_str().len() as u64 + NAME_BYTES;
        let left = self.names.get().checked_sub(length).ok_or(OverBudget::Names)?;
        self.names.set(left);
        Ok(())
    }

    /// Returns an archive's next entry. The entry before it has to be read to its end (see [`drain`]), unless the
    /// archive is read with seeks.
    pub fn next_entry<'a, R: Read>(
        &self,
        entries: &mut tar::Entries<'a, R>,
    ) -> Option<io::Result<tar::Entry<'a, R>>> {
        self.records.set(MAX_RECORDS);
        let next = entries.next();
        self.records.set(u64::MAX);
        let next = next?;
        Some(next.and_then(|entry| self.take_entry().map(|()| entry).map_err(Into::into)))
    }
}

/// Reads what is left of an entry, so that the next one is not paid for with its bytes. A sparse file's holes
/// are no bytes of the archive: it is refused.
///
/// # Errors
/// Fails as its reader does, and at a sparse file.
pub fn drain<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    if entry.header().entry_type().is_gnu_sparse() {
        let why = "it is a sparse file, which a guest has no use for";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    io::copy(entry, &mut io::sink()).map(drop)
}

/// Bytes that are free on the disk of a folder, for those who are not root; `None` where a disk does not say.
pub fn free_space(folder: &Path) -> Option<u64> {
    let disk = statvfs(folder).ok().filter(|disk| disk.f_blocks > 0)?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A reader whose bytes are taken from a budget.
pub struct Bounded<'a, R> {
    inner: R,
    budget: &'a Budget,
}

impl<'a, R> Bounded<'a, R> {
    /// Reads `inner` on this budget.
    pub fn new(inner: R, budget: &'a Budget) -> Bounded<'a, R> {
        Bounded { inner, budget }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.budget.take_bytes(count as u64)?;
        let records = &self.budget.records;
        let left = records.get().checked_sub(count as u64).ok_or(OverBudget::LongName)?;
        if records.get() != u64::MAX {
            records.set(left);
        }
        Ok(count)
    }
}

impl<R: Seek> Seek for Bounded<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries_read(archive: &[u8], budget: &Budget) -> io::Result<usize> {
        let mut archive = tar::Archive::new(Bounded::new(archive, budget));
        let mut entries = archive.entries()?;
        let mut count = 0;
        while let Some(entry) = budget.next_entry(&mut entries) {
            drain(&mut entry?)?;
            count += 1;
        }
        Ok(count)
    }

    fn budget() -> Budget {
        Budget::for_packed(1 << 20, Path::new("/"))
    }

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("record").unwrap();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn a_long_name_or_extended_header_fills_no_memory() {
        let long = vec![b'a'; 1 << 20];
        for kind in [b'L', b'K', b'x'] {
            let archive = [record(kind, &long), record(b'0', b"content")].concat();
            let error = entries_read(&archive, &budget()).unwrap_err();
            assert!(error.to_string().contains("longer than any"), "{error}");
        }
    }

    #[test]
    fn an_extended_header_that_moves_the_next_one_hides_no_long_name() {
        // By its own header the file has content; by the extended header it has none, and its content is
        // headers.
        let hidden = [record(b'L', &vec![b'a'; 1 << 20]), record(b'0', b"")].concat();
        let archive = [record(b'x', b"10 size=0\n"), record(b'0', &hidden)].concat();
        let error = entries_read(&archive, &budget()).unwrap_err();
        assert!(error.to_string().contains("longer than any"), "{error}");
    }

    #[test]
    fn content_is_no_record() {
        let archive = [record(b'0', &vec![b'a'; 1 << 20]), record(b'0', b"content")].concat();
        assert_eq!(entries_read(&archive, &budget()).unwrap(), 2);
    }

    #[test]
    fn an_entry_costs_the_space_that_it_takes() {
        let budget = Budget::for_packed(0, Path::new("/"));
        let most = RATIO_FREE / ENTRY_BYTES;
        (0..most).for_each(|_| budget.take_entry().unwrap());
        assert_eq!(budget.take_entry(), Err(OverBudget::Ratio { most: RATIO_FREE }));
    }
}
