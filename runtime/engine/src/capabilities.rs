//! Takes capabilities from a thread, and from all threads that it makes, for good: also those that a program with
//! file capabilities would get back, which the bounding set allows (capabilities(7)).

use rustix::io::{Errno, Result};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Keeps of its capabilities only these.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn keep(kept: CapabilitySet) -> Result<()> {
    bound(kept)?;
    let had = rustix::thread::capabilities(None)?;
    let kept = kept & had.permitted;
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    rustix::thread::set_capabilities(None, sets)
}

/// Takes all but these from the bounding set. A thread that may not (`CAP_SETPCAP`) has nothing to take that it
/// could get back: it is to give up new privileges as well.
///
/// # Errors
/// Fails if the kernel refuses for another reason.
pub(crate) fn bound(kept: CapabilitySet) -> Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(Errno::PERM) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
