//! What a container may consume. Every limit has a value; what is not bounded says so.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::units::{Bytes, CpuShare, Fuel, Limit, Rate, Timeout};

/// What one container may consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// All linear memories and tables of the container together.
    pub memory: Bytes,
    pub cpus: Limit<CpuShare>,
    pub fuel: Limit<Fuel>,
    pub timeout: Limit<Timeout>,
    /// Bytes that may be written to directories and scratch space, together.
    pub storage: Limit<Bytes>,
    pub net_rate: Limit<Rate>,
    pub bounds: Bounds,
}

/// Bounds that nobody need think of, and that keep a hostile guest from hurting its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Elements of all tables together.
    pub table_elements: u32,
    /// Core instances of a component.
    pub instances: u32,
    /// Open files, sockets, streams and other handles at once; with little memory there are fewer
    /// ([`Limits::handles`]).
    pub handles: u32,
    /// The guest's call stack; every profile can give from 64 KiB to 1 MiB.
    #[serde(deserialize_with = "stack")]
    pub stack: Bytes,
    /// Host memory that a single host call may fill on the guest's behalf.
    pub host_buffer: Bytes,
}

fn stack<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    let stack = Bytes::deserialize(from)?;
    match ((64 << 10)..=(1 << 20)).contains(&stack.get()) {
        true => Ok(stack),
        false => Err(D::Error::custom(format!("a stack of {stack} is not between 64k and 1m"))),
    }
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            table_elements: 1_000_000,
            instances: 128,
            handles: 4_096,
            stack: Bytes::new(512 << 10),
            host_buffer: Bytes::mib(32),
        }
    }
}

impl Bounds {
    /// The lower of each bound.
    pub fn at_most(self, ceiling: &Bounds) -> Bounds {
        let Bounds { table_elements, instances, handles, stack, host_buffer } = self;
        Bounds {
            table_elements: table_elements.min(ceiling.table_elements),
            instances: instances.min(ceiling.instances),
            handles: handles.min(ceiling.handles),
            stack: stack.min(ceiling.stack),
            host_buffer: host_buffer.min(ceiling.host_buffer),
        }
    }
}

impl Default for Limits {
    /// The limits where neither operator, image nor configuration says anything.
    fn default() -> Limits {
        Limits {
            memory: Bytes::mib(256),
            cpus: Limit::Unlimited,
            fuel: Limit::Unlimited,
            timeout: Limit::Unlimited,
            storage: Limit::Unlimited,
            net_rate: Limit::Unlimited,
            bounds: Bounds::default(),
        }
    }
}

/// What the host may keep for each handle of a guest.
const KEPT_FOR_A_HANDLE: u64 = 64 << 10;
/// How many handles every guest has, unless its bounds say fewer.
const LEAST_HANDLES: u64 = 256;

impl Limits {
    /// How many handles a guest may have at once. The host may keep 64 KiB for each: for all of them no more than
    /// the guest itself may have, or 16 MiB.
    pub fn handles(&self) -> u32 {
        let most = (self.memory.get() / KEPT_FOR_A_HANDLE).max(LEAST_HANDLES);
        self.bounds.handles.min(u32::try_from(most).unwrap_or(u32::MAX))
    }
}

/// The limits that somebody spoke of: an operator in flags, an image in annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitWants {
    pub memory: Option<Bytes>,
    pub cpus: Option<CpuShare>,
    pub fuel: Option<Fuel>,
    pub timeout: Option<Timeout>,
    pub storage: Option<Bytes>,
    pub net_rate: Option<Rate>,
}

impl LimitWants {
    /// What `self` says, and what `other` says where `self` is silent.
    pub fn or(self, other: LimitWants) -> LimitWants {
        let LimitWants { memory, cpus, fuel, timeout, storage, net_rate } = self;
        LimitWants {
            memory: memory.or(other.memory),
            cpus: cpus.or(other.cpus),
            fuel: fuel.or(other.fuel),
            timeout: timeout.or(other.timeout),
            storage: storage.or(other.storage),
            net_rate: net_rate.or(other.net_rate),
        }
    }
}

/// A limit that is above what the host's configuration allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {asked} is above this host's ceiling of {ceiling}")]
pub struct OverCeiling {
    pub flag: &'static str,
    pub asked: String,
    pub ceiling: String,
}

impl Limits {
    /// The limits that follow from `wants`, and `self` where they say nothing.
    pub fn with(self, wants: LimitWants) -> Limits {
        let LimitWants { memory, cpus, fuel, timeout, storage, net_rate } = wants;
        Limits {
            memory: memory.unwrap_or(self.memory),
            cpus: cpus.map_or(self.cpus, Limit::AtMost),
            fuel: fuel.map_or(self.fuel, Limit::AtMost),
            timeout: timeout.map_or(self.timeout, Limit::AtMost),
            storage: storage.map_or(self.storage, Limit::AtMost),
            net_rate: net_rate.map_or(self.net_rate, Limit::AtMost),
            bounds: self.bounds,
        }
    }

    /// The lower of each limit and the ceiling's: what is given unasked is never above it.
    pub fn at_most(self, ceiling: &Limits) -> Limits {
        Limits {
            memory: self.memory.min(ceiling.memory),
            cpus: self.cpus.min(ceiling.cpus),
            fuel: self.fuel.min(ceiling.fuel),
            timeout: self.timeout.min(ceiling.timeout),
            storage: self.storage.min(ceiling.storage),
            net_rate: self.net_rate.min(ceiling.net_rate),
            bounds: self.bounds.at_most(&ceiling.bounds),
        }
    }

    /// Returns `self` if it fits under `ceiling`; refuses rather than clamps.
    pub fn within(self, ceiling: &Limits) -> Result<Limits, OverCeiling> {
        let Limits { memory, cpus, fuel, timeout, storage, net_rate, bounds: _ } = self;
        check("--memory", memory, ceiling.memory)?;
        check("--cpus", cpus, ceiling.cpus)?;
        check("--fuel", fuel, ceiling.fuel)?;
        check("--timeout", timeout, ceiling.timeout)?;
        check("--storage-opt size=", storage, ceiling.storage)?;
        check("--net-rate", net_rate, ceiling.net_rate)?;
        Ok(self)
    }
}

fn check<T: PartialOrd + ToString>(
    flag: &'static str,
    asked: T,
    ceiling: T,
) -> Result<(), OverCeiling> {
    if asked <= ceiling {
        return Ok(());
    }
    Err(OverCeiling { flag, asked: asked.to_string(), ceiling: ceiling.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_above_the_ceiling_is_refused_and_never_clamped() {
        let ceiling = Limits { memory: Bytes::mib(128), ..Limits::default() };
        let wants = LimitWants { memory: Some(Bytes::mib(129)), ..LimitWants::default() };
        let refused = ceiling.with(wants).within(&ceiling).unwrap_err();
        assert_eq!(refused.to_string(), "--memory 129MiB is above this host's ceiling of 128MiB");
    }

    #[test]
    fn what_the_host_keeps_for_handles_is_no_more_than_the_guests_own_memory() {
        let handles = |memory| Limits { memory, ..Limits::default() }.handles();
        assert_eq!(handles(Bytes::mib(4_096)), Bounds::default().handles);
        assert_eq!(handles(Bytes::mib(256)), Bounds::default().handles);
        assert_eq!(handles(Bytes::mib(64)), 1_024);
        assert_eq!(handles(Bytes::mib(1)), 256);
        let bounds = Bounds { handles: 10, ..Bounds::default() };
        assert_eq!(Limits { bounds, ..Limits::default() }.handles(), 10);
    }

    #[test]
    fn unlimited_is_above_every_ceiling() {
        let ceiling = Limits { cpus: Limit::AtMost("0.5".parse().unwrap()), ..Limits::default() };
        assert!(Limits::default().within(&ceiling).is_err());
        let wants = LimitWants { cpus: Some("0.5".parse().unwrap()), ..LimitWants::default() };
        assert!(Limits::default().with(wants).within(&ceiling).is_ok());
    }
}
