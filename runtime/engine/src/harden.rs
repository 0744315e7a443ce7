//! Takes from a process that hosts guests what no host of guests needs, for good.
//!
//! What a guest could do that has broken out of its sandbox is then what this process still may: it opens
//! files, and connects, but starts no program, looks into no other process, and changes nothing of the
//! machine. `apart` is for what is to be stopped there, too.

use rustix::thread::CapabilitySet;

use crate::apart::{SeccompProfile, seccomp};
use crate::capabilities;
use crate::error::EngineError;

/// What a process hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Guests.
    Guests,
    /// Processes of guests, which it may have to end.
    Processes,
}

/// Gives up new privileges, capabilities that no grant needs, and system calls that no host of guests makes.
/// All threads of the process lose the calls; capabilities are this thread's, and those of threads that it
/// makes from now on.
///
/// # Errors
/// Fails if the kernel refuses. Then no guest is to be run.
pub fn harden(hosts: Hosts) -> Result<(), EngineError> {
    let failed = |what| move |source: rustix::io::Errno| wall(what, source.into());
    let mut kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::NET_BIND_SERVICE;
    if hosts == Hosts::Processes {
        kept |= CapabilitySet::KILL;
    }
    capabilities::keep(kept).map_err(failed("drop capabilities"))?;
    if !seccomp::is_supported() {
        // `mote security` says so.
        return rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"));
    }
    // It gives up new privileges first.
    seccompiler::apply_filter_all_threads(&SeccompProfile::of_host().filter()?)
        .map_err(|error| wall("install a seccomp filter", std::io::Error::other(error)))
}

fn wall(what: &'static str, source: std::io::Error) -> EngineError {
    EngineError::Wall { what, source }
}
