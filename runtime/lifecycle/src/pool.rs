//! Decides whether a host has room for a container: what is required is reserved at its creation and
//! given back at its removal.
//!
//! Pure. A requirement that has no bound reserves nothing: it takes what is left when it runs.

use std::collections::BTreeMap;
use std::fmt;

use mote_spec::{Bytes, ContainerId, Limits};
use serde::{Deserialize, Serialize};

/// What a host has to give, or a container requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub memory: u64,
    /// Thousandths of a CPU.
    pub cpu: u64,
    pub storage: u64,
    /// Network bytes in a second.
    pub network: u64,
}

impl Resources {
    /// What a container with such limits requires.
    pub fn of(limits: &Limits) -> Resources {
        Resources {
            memory: limits.memory.get(),
            cpu: limits.cpus.bound().map_or(0, |share| u64::from(share.millis())),
            storage: limits.storage.bound().map_or(0, Bytes::get),
            network: limits.net_rate.bound().map_or(0, mote_spec::Rate::per_second),
        }
    }

    /// The lower of both in everything: nobody requires more than he may have.
    pub fn at_most(self, other: Resources) -> Resources {
        let Resources { memory, cpu, storage, network } = self;
        let least = |own: u64, most: u64| if most == 0 { own } else { own.min(most) };
        Resources {
            memory: least(memory, other.memory),
            cpu: least(cpu, other.cpu),
            storage: least(storage, other.storage),
            network: least(network, other.network),
        }
    }

    /// The same with more of everything, as overcommitting has it.
    pub fn times(self, factor: f64) -> Resources {
        let more = |amount: u64| (amount as f64 * factor.max(0.0)) as u64;
        let Resources { memory, cpu, storage, network } = self;
        Resources {
            memory: more(memory),
            cpu: more(cpu),
            storage: more(storage),
            network: more(network),
        }
    }

    /// Each amount put together with the other's.
    fn combined(self, other: Resources, how: fn(u64, u64) -> u64) -> Resources {
        let Resources { memory, cpu, storage, network } = self;
        Resources {
            memory: how(memory, other.memory),
            cpu: how(cpu, other.cpu),
            storage: how(storage, other.storage),
            network: how(network, other.network),
        }
    }

    fn each(self) -> [(Resource, u64); 4] {
        let Resources { memory, cpu, storage, network } = self;
        [
            (Resource::Memory, memory),
            (Resource::Cpu, cpu),
            (Resource::Storage, storage),
            (Resource::Network, network),
        ]
    }
}

/// One of the things that a host has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Memory,
    Cpu,
    Storage,
    Network,
}

/// What is held by whom.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    total: Resources,
    held: BTreeMap<ContainerId, (String, Resources)>,
    /// The sum of what is held.
    used: Resources,
}

/// Why a container does not fit, and who holds what it would need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoom {
    pub resource: Resource,
    pub wanted: u64,
    pub free: u64,
    /// The containers that hold most of it, by name.
    pub holders: Vec<(String, u64)>,
}

/// How many holders are named.
const HOLDERS: usize = 3;

impl Pool {
    /// A pool of which nothing is held.
    pub fn new(total: Resources) -> Pool {
        Pool { total, held: BTreeMap::new(), used: Resources::default() }
    }

    /// Reserves what a container requires, or what it requires now instead of what it held.
    ///
    /// # Errors
    /// Fails if the host has not so much left; nothing is changed then.
    pub fn reserve(
        &mut self,
        id: &ContainerId,
        name: &str,
        wants: Resources,
    ) -> Result<(), NoRoom> {
        for (resource, wanted) in wants.each() {
            let free = self.free_but_for(resource, Some(id));
            if wanted > free {
                return Err(NoRoom { resource, wanted, free, holders: self.holders(resource, id) });
            }
        }
        self.hold(id, name, wants);
        Ok(())
    }

    /// Notes what a container holds already, whether the host has so much or not: what was granted
    /// stays granted.
    pub fn hold(&mut self, id: &ContainerId, name: &str, holds: Resources) {
        self.give_back(id);
        self.used = self.used.combined(holds, u64::saturating_add);
        self.held.insert(id.clone(), (name.to_owned(), holds));
    }

    /// Gives back what a container held.
    pub fn give_back(&mut self, id: &ContainerId) {
        if let Some((_, held)) = self.held.remove(id) {
            self.used = self.used.combined(held, u64::saturating_sub);
        }
    }

    /// How much of something is left.
    pub fn free(&self, resource: Resource) -> u64 {
        self.free_but_for(resource, None)
    }

    fn free_but_for(&self, resource: Resource, but: Option<&ContainerId>) -> u64 {
        let own =
            but.and_then(|id| self.held.get(id)).map_or(0, |(_, held)| amount(*held, resource));
        let others = amount(self.used, resource).saturating_sub(own);
        amount(self.total, resource).saturating_sub(others)
    }

    fn holders(&self, resource: Resource, but: &ContainerId) -> Vec<(String, u64)> {
        let others = self.held.iter().filter(|(id, _)| *id != but);
        let mut holders: Vec<(String, u64)> = others
            .map(|(_, (name, held))| (name.clone(), amount(*held, resource)))
            .filter(|(_, held)| *held > 0)
            .collect();
        holders.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        holders.truncate(HOLDERS);
        holders
    }
}

fn amount(of: Resources, resource: Resource) -> u64 {
    match resource {
        Resource::Memory => of.memory,
        Resource::Cpu => of.cpu,
        Resource::Storage => of.storage,
        Resource::Network => of.network,
    }
}

impl Resource {
    /// An amount of it, as a person reads it.
    fn show(self, amount: u64) -> String {
        match self {
            Resource::Cpu => format!("{} CPUs", amount as f64 / 1000.0),
            Resource::Memory | Resource::Storage => Bytes::new(amount).to_string(),
            Resource::Network => format!("{}/s", Bytes::new(amount)),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Memory => "memory",
            Resource::Cpu => "CPU",
            Resource::Storage => "storage",
            Resource::Network => "network",
        })
    }
}

impl std::error::Error for NoRoom {}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoRoom { resource, wanted, free, holders } = self;
        let (wanted, free) = (resource.show(*wanted), resource.show(*free));
        match resource {
            // "1.5 CPUs" say themselves what they are.
            Resource::Cpu => write!(f, "the host has {free} left, and {wanted} are required")?,
            Resource::Memory | Resource::Storage | Resource::Network => {
                write!(f, "the host has {free} of {resource} left, and {wanted} are required")?;
            }
        }
        for (at, (name, held)) in holders.iter().enumerate() {
            let before = if at == 0 { "; most is held by " } else { ", " };
            write!(f, "{before}{name} ({})", resource.show(*held))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> ContainerId {
        ContainerId::new([number; 32])
    }

    fn memory(mib: u64) -> Resources {
        Resources { memory: mib << 20, ..Resources::default() }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_is_free_and_who_has_the_rest() {
        let mut pool = Pool::new(memory(100));
        pool.reserve(&id(1), "small", memory(20)).unwrap();
        pool.reserve(&id(2), "large", memory(50)).unwrap();
        let refused = pool.reserve(&id(3), "new", memory(40)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the host has 30MiB of memory left, and 40MiB are required; most is held by large (50MiB), small (20MiB)"
        );
        let mut cpus = Pool::new(Resources { cpu: 2_000, ..Resources::default() });
        let wants = |millis| Resources { cpu: millis, ..Resources::default() };
        cpus.reserve(&id(1), "busy", wants(1_500)).unwrap();
        let refused = cpus.reserve(&id(2), "new", wants(1_000)).unwrap_err().to_string();
        assert!(refused.starts_with("the host has 0.5 CPUs left, and 1 CPUs"), "{refused}");
        pool.give_back(&id(1));
        pool.reserve(&id(3), "new", memory(40)).unwrap();
        // What one holds itself does not stand in its way.
        pool.reserve(&id(2), "large", memory(60)).unwrap();
        assert!(pool.reserve(&id(2), "large", memory(61)).is_err());
    }

    #[test]
    fn a_host_that_shrank_gives_nothing_more_until_something_is_given_back() {
        let mut pool = Pool::new(memory(100));
        pool.hold(&id(1), "old", memory(80));
        pool.hold(&id(2), "older", memory(80));
        assert!(pool.reserve(&id(3), "new", memory(1)).is_err());
        pool.give_back(&id(2));
        pool.reserve(&id(3), "new", memory(20)).unwrap();
    }

    #[test]
    fn what_has_no_bound_reserves_nothing() {
        let mut pool = Pool::new(Resources { memory: 1 << 30, cpu: 2000, storage: 0, network: 0 });
        let limits = Limits { memory: Bytes::mib(1), ..Limits::default() };
        pool.reserve(&id(1), "a", Resources::of(&limits)).unwrap();
        assert_eq!(pool.free(Resource::Cpu), 2000);
    }

    proptest! {
        /// Never is more held than there is, whatever is reserved and given back.
        #[test]
        fn statement_4_1_no_more_is_reserved_than_there_is(
            steps in proptest::collection::vec((0u8..6, 0u64..60, any::<bool>()), 0..60)
        ) {
            let total = memory(100);
            let mut pool = Pool::new(total);
            for (number, wants, give_back) in steps {
                if give_back {
                    pool.give_back(&id(number));
                } else {
                    let fits = pool.free_but_for(Resource::Memory, Some(&id(number))) >= wants << 20;
                    prop_assert_eq!(pool.reserve(&id(number), "x", memory(wants)).is_ok(), fits);
                }
                let held: u64 = pool.held.values().map(|(_, held)| held.memory).sum();
                prop_assert!(held <= total.memory);
                prop_assert_eq!(pool.free(Resource::Memory), total.memory - held);
            }
        }
    }
}
