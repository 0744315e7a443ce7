//! Decides what a container may do: an image asks, the operator grants, the host's ceiling caps.
//!
//! Pure. The result is one immutable value, and the only thing that a sandbox can be built from.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::confinement;
use crate::grants::{Dns, Grants, NetGrants, Network};
use crate::limits::{LimitWants, Limits, OverCeiling};
use crate::policy_error::PolicyError;
use crate::security::{Isolation, Security, SecurityWants};
use crate::units::Limit;

/// What an image asks for in its annotations and labels. A wish, and never a grant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Asks {
    pub limits: LimitWants,
    pub net: NetGrants,
    pub isolation: Option<Isolation>,
}

/// What the operator said, in flags, in an API call, or in a pod's annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    pub limits: LimitWants,
    pub grants: Grants,
    pub security: SecurityWants,
}

/// Which directories of the host may be granted at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Volumes {
    #[default]
    Anywhere,
    /// Only these folders and what is below them.
    Below(Vec<PathBuf>),
}

/// What the host's configuration allows at most, and what it gives unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    pub defaults: Limits,
    pub most: Limits,
    pub volumes: Volumes,
    pub network: Network,
    /// How little a container may be isolated.
    pub isolation: Isolation,
}

impl Ceiling {
    /// The ceiling of a machine with so much memory and no configuration.
    pub fn of_machine(memory: crate::Bytes) -> Ceiling {
        // Whole MiB, as a person reads them.
        let memory = crate::Bytes::new(memory.get() >> 20 << 20);
        let defaults = Limits::default();
        let defaults = Limits { memory: defaults.memory.min(memory), ..defaults };
        Ceiling {
            defaults,
            most: Limits { memory, ..defaults },
            volumes: Volumes::Anywhere,
            network: Network::Host,
            isolation: Isolation::Shared,
        }
    }

    /// The lower of two ceilings in everything.
    pub fn at_most(self, other: &Ceiling) -> Ceiling {
        let Ceiling { defaults, most, volumes, network, isolation } = self;
        let most = most.at_most(&other.most);
        Ceiling {
            defaults: defaults.at_most(&most),
            most,
            volumes: volumes.at_most(&other.volumes),
            network: if other.network == Network::Host { network } else { other.network },
            isolation: isolation.max(other.isolation),
        }
    }
}

impl Volumes {
    /// The folders that both allow.
    fn at_most(self, other: &Volumes) -> Volumes {
        match (self, other) {
            (own, Volumes::Anywhere) => own,
            (Volumes::Anywhere, other) => other.clone(),
            (Volumes::Below(own), Volumes::Below(others)) => {
                let inside = |path: &PathBuf, roots: &[PathBuf]| {
                    roots.iter().any(|root| path.starts_with(root))
                };
                let narrow = own.iter().filter(|path| inside(path, others));
                let narrower = others.iter().filter(|path| inside(path, &own));
                let all: BTreeSet<PathBuf> = narrow.chain(narrower).cloned().collect();
                Volumes::Below(all.into_iter().collect())
            }
        }
    }
}

/// What a container may touch and consume, decided once at its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    limits: Limits,
    grants: Grants,
    #[serde(default)]
    security: Security,
}

impl Policy {
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The same grants with other limits where something else is wanted.
    ///
    /// # Errors
    /// Fails if a limit would be above the ceiling.
    pub fn updated(&self, wants: LimitWants, ceiling: &Ceiling) -> Result<Policy, OverCeiling> {
        let limits = self.limits.with(wants).within(&ceiling.most)?;
        Ok(Policy { limits, ..self.clone() })
    }

    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    pub fn security(&self) -> &Security {
        &self.security
    }

    /// The same without the ports that it listens on: for what runs beside the container that does.
    pub fn without_ports(&self) -> Policy {
        let mut policy = self.clone();
        policy.grants.net.publish.clear();
        policy
    }

    /// The same without any network: for a program that has no words for it.
    pub fn without_network(&self) -> Policy {
        let mut policy = self.clone();
        policy.grants.net = NetGrants::default();
        policy
    }
}

/// Decides the policy of a container, or says why there is none.
///
/// An image's limits count where the operator is silent, and only downwards from the defaults: to
/// ask for more than the default takes the operator's word.
pub fn decide(request: Request, asks: &Asks, ceiling: &Ceiling) -> Result<Policy, PolicyError> {
    check_asked_limits(&asks.limits, &request.limits, &ceiling.defaults)?;
    check_asked_network(&asks.net, &request.grants.net)?;
    check_grants(&request.grants, ceiling)?;
    let limits = ceiling.defaults.with(asks.limits).with(request.limits).within(&ceiling.most)?;
    let security = confinement::decide(request.security, asks.isolation, ceiling.isolation)?;
    Ok(Policy { limits, grants: request.grants, security })
}

fn check_asked_limits(
    asks: &LimitWants,
    said: &LimitWants,
    unasked: &Limits,
) -> Result<(), PolicyError> {
    let LimitWants { memory, cpus, fuel, timeout, storage, net_rate } = *asks;
    fn check<T: Copy + PartialOrd + std::fmt::Display>(
        (what, flag): (&str, &str),
        (asked, said): (Option<T>, Option<T>),
        unasked: Limit<T>,
    ) -> Result<(), PolicyError> {
        match asked {
            Some(asked) if said.is_none() && Limit::AtMost(asked) > unasked => {
                Err(PolicyError::NotGranted {
                    what: format!("{what} {asked}"),
                    flag: format!("{flag}{asked}"),
                })
            }
            _ => Ok(()),
        }
    }
    check(("memory of", "--memory "), (memory, said.memory), Limit::AtMost(unasked.memory))?;
    check(("a CPU share of", "--cpus "), (cpus, said.cpus), unasked.cpus)?;
    check(("fuel of", "--fuel "), (fuel, said.fuel), unasked.fuel)?;
    check(("a time of", "--timeout "), (timeout, said.timeout), unasked.timeout)?;
    check(("storage of", "--storage-opt size="), (storage, said.storage), unasked.storage)?;
    check(("a network rate of", "--net-rate "), (net_rate, said.net_rate), unasked.net_rate)
}

fn check_asked_network(asks: &NetGrants, granted: &NetGrants) -> Result<(), PolicyError> {
    let NetGrants { network, connect, http, dns, publish } = asks;
    if granted.network == Network::Host {
        return Ok(());
    }
    let refuse = |what: String, flag: String| Err(PolicyError::NotGranted { what, flag });
    if *network == Network::Host {
        return refuse("the host's network".into(), "--network host".into());
    }
    if let Some(rule) = connect.iter().find(|rule| !granted.connect.iter().any(|g| g.covers(rule)))
    {
        return refuse(format!("connections to {rule}"), format!("--allow-net {rule}"));
    }
    if let Some(rule) = http.iter().find(|rule| !granted.http.iter().any(|g| g.covers(rule))) {
        return refuse(format!("HTTP requests to {rule}"), format!("--allow-http {rule}"));
    }
    if *dns == Dns::Allowed && granted.dns != Dns::Allowed {
        return refuse("name look-ups".into(), "--allow-dns".into());
    }
    let listens = |port: &&crate::Publish| {
        let same = |g: &crate::Publish| (g.protocol, g.guest) == (port.protocol, port.guest);
        !granted.publish.iter().any(same)
    };
    if let Some(port) = publish.iter().find(listens) {
        return refuse(format!("port {port}"), format!("-p {port}"));
    }
    Ok(())
}

fn check_grants(grants: &Grants, ceiling: &Ceiling) -> Result<(), PolicyError> {
    if grants.net.network > ceiling.network {
        return Err(PolicyError::NetworkOverCeiling);
    }
    for dir in &grants.dirs {
        if !ceiling.volumes.allow(&dir.host) {
            return Err(PolicyError::VolumeOutside { path: dir.host.clone() });
        }
    }
    let dirs = grants.dirs.iter().map(|dir| &dir.guest);
    let mut places: Vec<_> =
        dirs.chain(grants.scratch.iter().map(|scratch| &scratch.guest)).collect();
    places.sort();
    match places.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(PolicyError::SamePlace(pair[0].to_string())),
        None => Ok(()),
    }
}

impl Volumes {
    /// By the path's text; the folder itself is checked again once it is open.
    pub fn allow(&self, path: &Path) -> bool {
        let climbs = path.components().any(|part| part == Component::ParentDir);
        match self {
            Volumes::Anywhere => true,
            Volumes::Below(roots) => !climbs && roots.iter().any(|root| path.starts_with(root)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;
    use proptest::prelude::*;

    fn ceiling() -> Ceiling {
        Ceiling::of_machine(Bytes::mib(1024))
    }

    fn asking(pairs: &[(&str, &str)]) -> Asks {
        let all = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Asks::from_annotations(&all).unwrap()
    }

    fn granting(pairs: &[(&str, &str)]) -> Request {
        let Asks { limits, net, isolation } = asking(pairs);
        let security = SecurityWants { isolation, ..SecurityWants::default() };
        Request { limits, grants: Grants { net, ..Grants::default() }, security }
    }

    #[test]
    fn what_an_image_asks_is_refused_by_the_name_of_its_flag() {
        let table = [
            ("io.mote.allow-net", "tcp://a.b:443", "--allow-net tcp://a.b:443"),
            ("io.mote.allow-http", "https://a.b/v1", "--allow-http https://a.b/v1"),
            ("io.mote.allow-dns", "true", "--allow-dns"),
            ("io.mote.network", "host", "--network host"),
            ("io.mote.publish", "8080:80", "-p 0.0.0.0:8080:80"),
            ("io.mote.memory", "512m", "--memory 512MiB"),
        ];
        for (key, value, flag) in table {
            let asks = asking(&[(key, value)]);
            let refused = decide(Request::default(), &asks, &ceiling()).unwrap_err();
            assert!(refused.to_string().ends_with(&format!("with {flag}")), "{refused}");
            assert!(decide(granting(&[(key, value)]), &asks, &ceiling()).is_ok(), "{key} granted");
        }
    }

    #[test]
    fn an_image_may_ask_for_less_and_the_operator_has_the_last_word() {
        let asks = asking(&[("io.mote.memory", "16m"), ("io.mote.timeout", "5s")]);
        let policy = decide(Request::default(), &asks, &ceiling()).unwrap();
        assert_eq!(policy.limits().memory, Bytes::mib(16));
        let policy = decide(granting(&[("io.mote.memory", "32m")]), &asks, &ceiling()).unwrap();
        assert_eq!(policy.limits().memory, Bytes::mib(32));
    }

    #[test]
    fn a_volume_comes_only_from_where_the_configuration_says() {
        let volumes = Volumes::Below(vec!["/srv".into()]);
        let with = |dir: &str| {
            let mut request = Request::default();
            request.grants.dirs.push(dir.parse().unwrap());
            decide(request, &Asks::default(), &Ceiling { volumes: volumes.clone(), ..ceiling() })
        };
        assert!(with("/srv/a:/a").is_ok());
        for bad in ["/etc:/a", "/srv/../etc:/a", "/srvx:/a", "srv:/a"] {
            assert!(matches!(with(bad), Err(PolicyError::VolumeOutside { .. })), "{bad}");
        }
    }

    #[test]
    fn two_grants_cannot_be_at_one_place() {
        let mut request = Request::default();
        request.grants.dirs.push("/srv:/a".parse().unwrap());
        request.grants.scratch.push("/a/".parse().unwrap());
        assert!(matches!(
            decide(request, &Asks::default(), &ceiling()),
            Err(PolicyError::SamePlace(_))
        ));
    }

    proptest! {
        /// No pair of asks and grants yields a policy above the ceiling, or one with more grants than
        /// the operator gave.
        #[test]
        fn a_policy_never_exceeds_ceiling_or_request(
            asked in prop::option::of(any::<u64>()), said in prop::option::of(any::<u64>()), most in 1u64..,
        ) {
            let mut asks = Asks::default();
            asks.limits.memory = asked.map(Bytes::new);
            let mut request = Request::default();
            request.limits.memory = said.map(Bytes::new);
            let ceiling = Ceiling::of_machine(Bytes::new(most));
            if let Ok(policy) = decide(request.clone(), &asks, &ceiling) {
                prop_assert!(policy.limits().memory.get() <= most);
                prop_assert_eq!(policy.grants(), &request.grants);
                if said.is_none() {
                    prop_assert!(policy.limits().memory <= ceiling.defaults.memory);
                }
            }
        }
    }
}
