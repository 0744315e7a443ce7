//! Profiles of the engine, that is how it uses the machine, and checks, that is what compiled code looks at.
//!
//! [`config`](crate::config) makes wasmtime's configuration of them. What of a profile changes the compiled code is
//! in its code name, which is part of the key of the code cache.

use std::fmt;
use std::str::FromStr;

use mote_spec::{Bytes, Limit, Policy};
use serde::{Deserialize, Serialize};

use crate::tick;

/// The three ways to use a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Small boards: memories start small and move when they grow, stacks are small.
    Micro,
    /// Many containers in one process: slots are reserved ahead for so many instances.
    Gateway { slots: u32 },
    /// Address space is plenty: every memory has four GiB of it, and needs no bounds checks.
    Server,
}

/// What compiled code looks at while it computes, so that others may have a say. Only containers that need it
/// pay for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Checks {
    /// Nothing: the guest has its process to itself, and a signal finds it there (`alone`).
    Nothing,
    /// The engine's epoch: the guest gives way at every tick.
    Ticks,
    /// The epoch, and whether there is fuel left.
    TicksAndFuel,
}

/// Whom a guest shares its process with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Nobody: the process ends when it does.
    Nobody,
    Others,
}

impl Checks {
    /// What code has to look at that runs under a policy, unless that gives the guest a process of its own, in this
    /// company. A guest that is to stop at a moment has to look.
    pub fn of(policy: &Policy, company: Company) -> Checks {
        let limits = policy.limits();
        let company = match policy.security().is_apart() {
            true => Company::Nobody,
            false => company,
        };
        let is_timed = limits.timeout.bound().is_some() || limits.cpus.bound().is_some();
        match limits.fuel {
            Limit::AtMost(_) => Checks::TicksAndFuel,
            Limit::Unlimited if is_timed => Checks::Ticks,
            Limit::Unlimited => Checks::usual(company),
        }
    }

    /// What code has to look at of a guest with no limits but the usual ones.
    pub fn usual(company: Company) -> Checks {
        match company {
            Company::Nobody if tick::KNOWS_WHERE => Checks::Nothing,
            Company::Nobody | Company::Others => Checks::Ticks,
        }
    }

    pub(crate) fn look_at_ticks(self) -> bool {
        match self {
            Checks::Ticks | Checks::TicksAndFuel => true,
            Checks::Nothing => false,
        }
    }

    pub(crate) fn count_fuel(self) -> bool {
        match self {
            Checks::TicksAndFuel => true,
            Checks::Nothing | Checks::Ticks => false,
        }
    }
}

/// What is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that compiled code looks at: nothing, ticks and ticks+fuel are")]
pub struct UnknownChecks(String);

impl FromStr for Checks {
    type Err = UnknownChecks;

    fn from_str(text: &str) -> Result<Checks, UnknownChecks> {
        match text {
            "nothing" => Ok(Checks::Nothing),
            "ticks" => Ok(Checks::Ticks),
            "ticks+fuel" => Ok(Checks::TicksAndFuel),
            other => Err(UnknownChecks(other.into())),
        }
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Checks::Nothing => "nothing",
            Checks::Ticks => "ticks",
            Checks::TicksAndFuel => "ticks+fuel",
        })
    }
}

/// A profile that a person names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an engine profile: micro, gateway and server are")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Profile, UnknownProfile> {
        match text {
            "micro" => Ok(Profile::Micro),
            "gateway" => Ok(Profile::Gateway { slots: 100 }),
            "server" => Ok(Profile::Server),
            other => Err(UnknownProfile(other.into())),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Micro => "micro",
            Profile::Gateway { .. } => "gateway",
            Profile::Server => "server",
        })
    }
}

/// Four GiB and what wasmtime puts around them.
const FULL_RESERVATION: u64 = 4 << 30;
pub(crate) const FULL_GUARD: u64 = 32 << 20;

impl Profile {
    /// The profile that the machine can bear: `Server` if it has the address space for a full
    /// reservation, else `Micro`.
    pub fn detect() -> Profile {
        match can_reserve(FULL_RESERVATION + 2 * FULL_GUARD + (1 << 30)) {
            true => Profile::Server,
            false => Profile::Micro,
        }
    }

    /// Whether the machine has the address space for this profile.
    pub fn fits(self) -> bool {
        match self {
            Profile::Micro => true,
            Profile::Server => Profile::detect() == Profile::Server,
            Profile::Gateway { slots } => {
                can_reserve((FULL_RESERVATION + FULL_GUARD) * u64::from(slots + 1))
            }
        }
    }

    /// The profile that yields the same code and needs no reserved slots.
    pub(crate) fn of_code(self) -> Profile {
        match self {
            Profile::Gateway { .. } | Profile::Server => Profile::Server,
            Profile::Micro => Profile::Micro,
        }
    }

    /// What of the profile is baked into compiled code.
    pub(crate) fn code_name(self) -> &'static str {
        match self {
            Profile::Micro => "moving",
            Profile::Gateway { .. } | Profile::Server => "guarded",
        }
    }
}

/// The memory of this machine.
#[allow(clippy::useless_conversion, reason = "a 32-bit kernel counts in 32 bits")]
pub fn machine_memory() -> Bytes {
    let info = rustix::system::sysinfo();
    let total = u64::try_from(info.totalram).unwrap_or(u64::MAX);
    Bytes::new(total.saturating_mul(u64::from(info.mem_unit)))
}

/// Asks the kernel for address space and gives it back at once.
fn can_reserve(bytes: u64) -> bool {
    use rustix::mm::{MapFlags, ProtFlags};
    let Ok(length) = usize::try_from(bytes) else { return false };
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: an anonymous mapping at an address that the kernel chooses overlaps nothing, and
    // nobody has seen its address when it is unmapped.
    unsafe {
        match rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::empty(), flags) {
            Ok(address) => rustix::mm::munmap(address, length).is_ok(),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_reserved_is_noticed() {
        assert!(can_reserve(1 << 20));
        assert!(!can_reserve(1 << 62));
    }
}
