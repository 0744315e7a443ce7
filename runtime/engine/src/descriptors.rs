//! Shares a process's file descriptors among its guests and its own work.
//!
//! A guest may have thousands of files and sockets open, and some of them together all that the process may have: it
//! could then open no log, answer no client and start no container. The kernel gives every new file the lowest
//! free number, so one look at that number tells how many are taken, whoever took them:
//!
//! ```text
//! 0 ---- any guest ---- half ---- guests that hold few ---- guests' end ---- the process itself ---- limit
//! ```

use rustix::process::{Resource, getrlimit};

/// Descriptors that a guest holds at most to be one that holds few.
const FEW: u32 = 64;
/// The share of a process's descriptors that guests leave to it, and the least number.
const OWN_SHARE: u64 = 16;
const OWN_LEAST: u64 = 64;

/// The numbers up to which guests open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// For every guest.
    half: u64,
    /// For one that holds few.
    end: u64,
}

impl Descriptors {
    /// The numbers of a process that may have as many as this one.
    pub(crate) fn of_this_process() -> Descriptors {
        Descriptors::of_limit(getrlimit(Resource::Nofile).current.unwrap_or(u64::from(u32::MAX)))
    }

    fn of_limit(limit: u64) -> Descriptors {
        let own = (limit / OWN_SHARE).max(OWN_LEAST).min(limit / 2);
        Descriptors { half: limit / 2, end: limit.saturating_sub(own) }
    }

    /// Returns true if a guest with `held` open resources may open one more file.
    pub(crate) fn has_room(self, held: u32) -> bool {
        // Without a first descriptor there is nothing to look with, and nothing to be short of.
        match lowest_free() {
            Some(number) => self.allows(number, held),
            None => true,
        }
    }

    fn allows(self, number: u64, held: u32) -> bool {
        number < if held < FEW { self.end } else { self.half }
    }
}

/// The number that the next file gets; the limit where there is none.
fn lowest_free() -> Option<u64> {
    use std::os::fd::AsRawFd;
    match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 0) {
        Ok(probe) => u64::try_from(probe.as_raw_fd()).ok(),
        Err(rustix::io::Errno::MFILE) => Some(u64::MAX),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_hold_much_leave_half_to_others_and_all_of_them_a_part_to_the_process() {
        let numbers = Descriptors::of_limit(20_000);
        assert!(numbers.allows(9_999, 4_000));
        assert!(!numbers.allows(10_000, 4_000), "the other half is for guests that hold few");
        assert!(numbers.allows(10_000, 0) && numbers.allows(18_749, FEW - 1));
        assert!(!numbers.allows(18_750, 0), "and the last part is for the process");
        let few = Descriptors::of_limit(64);
        assert!(few.allows(31, 0) && !few.allows(32, 0), "where there are few, half of them");
    }

    #[test]
    fn this_process_has_room() {
        assert!(Descriptors::of_this_process().has_room(0));
    }
}
