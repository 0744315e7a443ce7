//! Files that whoever started this process left open for it.
//!
//! A guest that has broken out of its sandbox could read and write them. They are noted while nothing of the
//! process's own is open, since afterwards a number does not tell whose it is, and closed once all that the
//! command line names was read: a shell's `<(…)` is such a file.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors beyond the standard streams that a process began with.
#[derive(Debug)]
pub struct Inherited(Vec<RawFd>);

impl Inherited {
    /// Notes them. To be called before the process opens a file that it keeps.
    pub fn note() -> Inherited {
        let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let numbers: Vec<RawFd> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|number| *number > 2)
            .collect();
        // The folder that was just read was one of them, and is closed by now.
        Inherited(numbers.into_iter().filter(|number| is_open(*number)).collect())
    }

    /// Closes them.
    pub fn close(self) {
        for number in self.0 {
            // SAFETY: it was open before this process opened anything, and nobody else in it knows of it.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: the number is not used as an open file, only given to fcntl(2), which tells if it is none.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok()
}
