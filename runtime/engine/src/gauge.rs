//! What a container uses now: counters that its guest's process writes and whoever looks reads.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use mote_spec::Policy;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// What a container uses now; shared with whoever looks at it.
pub struct Gauge(Place);

enum Place {
    Own(Counters),
    /// Memory that another process may have as well.
    Shared(Mapping),
    /// The same, with the file that gives it to that process.
    ToShare(Mapping, OwnedFd),
}

/// The counters of a container. Any bits are valid ones: a process that others confine may have
/// written them.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    pub memory: AtomicU64,
    pub memory_peak: AtomicU64,
    pub cpu_nanos: AtomicU64,
    pub stored: AtomicU64,
    pub received: AtomicU64,
    pub sent: AtomicU64,
    /// Whether the last request for memory was refused: not 0.
    refused: AtomicU64,
}

impl Counters {
    pub(crate) fn refuse(&self, refused: bool) {
        self.refused.store(u64::from(refused), Ordering::Relaxed);
    }

    /// Whether the last request for memory was refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) != 0
    }
}

impl Default for Gauge {
    fn default() -> Gauge {
        Gauge(Place::Own(Counters::default()))
    }
}

impl Deref for Gauge {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        match &self.0 {
            Place::Own(counters) => counters,
            Place::Shared(mapping) | Place::ToShare(mapping, _) => mapping.counters(),
        }
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Gauge {
    /// A gauge for a guest of this policy, wherever that runs.
    ///
    /// # Errors
    /// Fails if there is no memory to be had that another process can have as well.
    pub fn of(policy: &Policy) -> io::Result<Gauge> {
        match policy.security().is_apart() {
            true => Gauge::to_share(),
            false => Ok(Gauge::default()),
        }
    }

    /// A gauge for another process as well.
    pub(crate) fn to_share() -> io::Result<Gauge> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create(c"mote-gauge", flags)?;
        rustix::fs::ftruncate(&memory, SIZE as u64)?;
        rustix::fs::fcntl_add_seals(
            &memory,
            SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        Ok(Gauge(Place::ToShare(Mapping::of(memory.as_fd())?, memory)))
    }

    /// What another process gets for `of_memory`, where this gauge can be shared.
    pub(crate) fn memory(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Place::ToShare(_, memory) => Some(memory.as_fd()),
            Place::Own(_) | Place::Shared(_) => None,
        }
    }

    /// The gauge in a memory that is another's.
    pub(crate) fn of_memory(memory: BorrowedFd<'_>) -> io::Result<Gauge> {
        Ok(Gauge(Place::Shared(Mapping::of(memory)?)))
    }
}

/// Counters in memory that is mapped, for as long as this lives.
struct Mapping(NonNull<Counters>);

const SIZE: usize = size_of::<Counters>();

impl Mapping {
    fn of(memory: BorrowedFd<'_>) -> io::Result<Mapping> {
        let seals = rustix::fs::fcntl_get_seals(memory)?;
        if !seals.contains(SealFlags::SHRINK) || rustix::fs::fstat(memory)?.st_size < SIZE as i64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is.
        let at = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), SIZE, access, MapFlags::SHARED, memory, 0)
        }?;
        NonNull::new(at.cast()).map(Mapping).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn counters(&self) -> &Counters {
        // SAFETY: the page is mapped until `drop`, is as long as its seal says, and holds nothing but
        // atomic numbers, whatever another process writes there.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this size, and no reference outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), SIZE) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: it is a mapping of atomic numbers, which any thread may read and write.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_see_the_same_numbers() {
        let here = Gauge::to_share().unwrap();
        let memory = here.memory().unwrap();
        let there = Gauge::of_memory(memory).unwrap();
        there.memory.store(7, Ordering::Relaxed);
        there.refuse(true);
        assert_eq!((here.memory.load(Ordering::Relaxed), here.is_refused()), (7, true));
        assert!(rustix::fs::ftruncate(memory, 1).is_err(), "it cannot be taken away");
        let short = rustix::fs::memfd_create(c"short", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(Gauge::of_memory(short.as_fd()).is_err());
    }
}
