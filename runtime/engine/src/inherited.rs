//! Files and signals that a process gets from whoever started it.
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

/// Closes all that whoever started this process had open, and did not mean for it.
pub(crate) fn close_inherited() {
    const FIRST: u32 = 3;
    // SAFETY: it is called before anything of this process's own is open but its standard streams. A kernel that
    // does not know the call (before Linux 5.9) leaves open what was not marked to be closed.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, 0) };
}

/// A terminal sends its signals to this process as well; what they mean to the guest is for its host to say.
pub(crate) fn leave_signals_to_the_host() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM] {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: the number is not used as an open file, only given to fcntl(2), which tells if it is none.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok()
}
