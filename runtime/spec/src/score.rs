//! How well a container is isolated, and how secure that is: the model's isolation level (definition 3.3) and
//! security score (definition 3.5), as weighted sums over what is in force.
//!
//! Pure: what a machine has and a process does is found out elsewhere, and told as `Standing`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::grants::{Access, Network, Root};
use crate::policy::Policy;
use crate::units::Limit;

/// Something that stands between a guest and what it was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    Sandbox,
    SealedCode,
    Files,
    Network,
    Limits,
    NewPrivileges,
    Capabilities,
    Seccomp,
    OwnProcess,
    Landlock,
    LandlockPorts,
    LandlockScope,
    Namespaces,
    Cgroup,
    User,
    Profile,
}

/// What a mechanism keeps apart: the dimensions of the isolation level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dimension {
    Memory,
    Files,
    Network,
    Processes,
    Resources,
}

impl Mechanism {
    pub const ALL: [Mechanism; 16] = [
        Mechanism::Sandbox,
        Mechanism::SealedCode,
        Mechanism::Files,
        Mechanism::Network,
        Mechanism::Limits,
        Mechanism::NewPrivileges,
        Mechanism::Capabilities,
        Mechanism::Seccomp,
        Mechanism::OwnProcess,
        Mechanism::Landlock,
        Mechanism::LandlockPorts,
        Mechanism::LandlockScope,
        Mechanism::Namespaces,
        Mechanism::Cgroup,
        Mechanism::User,
        Mechanism::Profile,
    ];

    /// How much it counts where the configuration says nothing; all together 100.
    pub fn weight(self) -> u32 {
        match self {
            Mechanism::Sandbox => 25,
            Mechanism::OwnProcess | Mechanism::Landlock | Mechanism::Seccomp => 10,
            Mechanism::Files | Mechanism::Network => 8,
            Mechanism::Limits | Mechanism::Capabilities => 5,
            Mechanism::SealedCode | Mechanism::NewPrivileges | Mechanism::User => 3,
            Mechanism::LandlockPorts | Mechanism::LandlockScope => 2,
            Mechanism::Namespaces | Mechanism::Cgroup => 2,
            Mechanism::Profile => 2,
        }
    }

    /// What it keeps apart.
    pub fn dimensions(self) -> &'static [Dimension] {
        use Dimension::{Files, Memory, Network, Processes, Resources};
        match self {
            Mechanism::Sandbox => &[Memory, Files, Network, Processes],
            Mechanism::SealedCode => &[Memory],
            Mechanism::Files | Mechanism::Landlock => &[Files],
            Mechanism::Network | Mechanism::LandlockPorts => &[Network],
            Mechanism::Limits | Mechanism::Cgroup => &[Resources],
            Mechanism::OwnProcess => &[Memory, Processes],
            Mechanism::Seccomp => &[Processes, Network],
            Mechanism::NewPrivileges | Mechanism::LandlockScope => &[Processes],
            Mechanism::Capabilities | Mechanism::User | Mechanism::Profile => &[Files, Processes],
            Mechanism::Namespaces => &[Network, Processes],
        }
    }

    /// What it is, for a person.
    pub fn says(self) -> &'static str {
        match self {
            Mechanism::Sandbox => "wasmtime's sandbox: memory, calls and handles of its own",
            Mechanism::SealedCode => "compiled code is this host's own, and sealed",
            Mechanism::Files => "granted directories",
            Mechanism::Network => "granted connections and ports",
            Mechanism::Limits => "limits on CPU, time, storage and network",
            Mechanism::NewPrivileges => "no new privileges",
            Mechanism::Capabilities => "capabilities given up",
            Mechanism::Seccomp => "system calls filtered",
            Mechanism::OwnProcess => "a process of its own",
            Mechanism::Landlock => "Landlock: files below the grants alone",
            Mechanism::LandlockPorts => "Landlock: granted TCP ports alone",
            Mechanism::LandlockScope => "Landlock: no signals to others",
            Mechanism::Namespaces => "namespaces",
            Mechanism::Cgroup => "a cgroup of its own",
            Mechanism::User => "a user without rights",
            Mechanism::Profile => "a profile of the operator's (seccomp, AppArmor)",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As it is written in configuration.
        let mut name = String::new();
        for (place, letter) in format!("{self:?}").char_indices() {
            if letter.is_ascii_uppercase() && place > 0 {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        f.pad(&name)
    }
}

/// How far a mechanism is in force, and what would make it stronger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    pub mechanism: Mechanism,
    /// From 0, not at all, to 1.
    pub strength: f64,
    pub hint: Option<String>,
}

/// What is known of the process that runs, or would run, a guest.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Whether its host's process gives up what it does not need.
    pub is_hardened: bool,
    /// Whether that process is an unprivileged user's.
    pub is_unprivileged: bool,
    /// The mechanisms that this machine lacks, and what each needs.
    pub lacks: BTreeMap<Mechanism, String>,
}

/// What stands between a guest of this policy and its host.
pub fn standings(policy: &Policy, host: &Surroundings) -> Vec<Standing> {
    Mechanism::ALL.into_iter().map(|mechanism| standing(mechanism, policy, host)).collect()
}

fn standing(mechanism: Mechanism, policy: &Policy, host: &Surroundings) -> Standing {
    let security = policy.security();
    let is_apart = security.is_apart();
    let apart = |hint: &str| match (is_apart, host.lacks.get(&mechanism)) {
        (true, None) => (1.0, None),
        (true, Some(needs)) => (0.0, Some(format!("this machine lacks it: it needs {needs}"))),
        (false, _) => (0.0, Some(hint.to_owned())),
    };
    let process = "--isolation process";
    let (strength, hint) = match mechanism {
        Mechanism::Sandbox | Mechanism::SealedCode => (1.0, None),
        Mechanism::Files => files(policy),
        Mechanism::Network => network(policy),
        Mechanism::Limits => limits(policy),
        Mechanism::NewPrivileges => match is_apart || host.is_hardened {
            true => (1.0, None),
            false => (0.0, Some(process.to_owned())),
        },
        Mechanism::Capabilities => match (is_apart, host.is_hardened || host.is_unprivileged) {
            (true, _) => (1.0, None),
            (false, true) => (0.5, Some(process.to_owned())),
            (false, false) => (0.0, Some(process.to_owned())),
        },
        Mechanism::Seccomp => match (host.lacks.get(&mechanism), is_apart, host.is_hardened) {
            (Some(needs), ..) => (0.0, Some(format!("this machine lacks it: it needs {needs}"))),
            (None, true, _) => (1.0, None),
            (None, false, true) => (0.4, Some(process.to_owned())),
            (None, false, false) => (0.0, Some(process.to_owned())),
        },
        Mechanism::Namespaces => {
            let without_network = policy.grants().net == crate::NetGrants::default();
            match apart(process) {
                (strength, None) if !without_network => (
                    strength / 2.0,
                    Some("a guest without network grants has a network of its own".to_owned()),
                ),
                other => other,
            }
        }
        Mechanism::OwnProcess
        | Mechanism::Landlock
        | Mechanism::LandlockPorts
        | Mechanism::LandlockScope
        | Mechanism::Cgroup => apart(process),
        Mechanism::User => match security.user {
            Some(user) if user.uid != 0 => (1.0, None),
            None if host.is_unprivileged => (1.0, None),
            Some(_) | None => (0.0, Some("--user UID".to_owned())),
        },
        Mechanism::Profile => match security.seccomp.is_some() || security.apparmor.is_some() {
            true => (1.0, None),
            false => (0.0, Some("--security-opt seccomp=FILE or apparmor=PROFILE".to_owned())),
        },
    };
    Standing { mechanism, strength, hint }
}

fn files(policy: &Policy) -> (f64, Option<String>) {
    let grants = policy.grants();
    let is_wide = |dir: &&crate::DirGrant| dir.host.components().count() <= 2;
    let writable = |dir: &&crate::DirGrant| dir.access == Access::ReadWrite;
    if let Some(wide) = grants.dirs.iter().filter(writable).find(is_wide) {
        return (0.0, Some(format!("grant less than all of {}", wide.host.display())));
    }
    match grants.dirs.iter().find(writable) {
        Some(dir) => {
            (0.5, Some(format!("-v {}:{}:ro, if it only reads", dir.host.display(), dir.guest)))
        }
        None if !grants.dirs.is_empty() => (0.8, None),
        None if grants.root == Root::ReadOnly => (1.0, None),
        None => (0.9, Some("--read-only, where the image has files".to_owned())),
    }
}

fn network(policy: &Policy) -> (f64, Option<String>) {
    let net = &policy.grants().net;
    if net.network == Network::Host {
        return (0.0, Some("--allow-net and --allow-http instead of --network host".to_owned()));
    }
    let any = |rule: &crate::NetRule| rule.target == crate::Target::Any;
    match net.connect.iter().any(any) {
        true => (0.3, Some("name the hosts in --allow-net instead of `*`".to_owned())),
        false if *net == crate::NetGrants::default() => (1.0, None),
        false => (0.7, None),
    }
}

fn limits(policy: &Policy) -> (f64, Option<String>) {
    let limits = policy.limits();
    let is_time_bound = limits.fuel != Limit::Unlimited || limits.timeout != Limit::Unlimited;
    let bounds = [
        (limits.cpus != Limit::Unlimited, "--cpus"),
        (limits.storage != Limit::Unlimited || policy.grants().dirs.is_empty(), "--storage-opt"),
        (
            limits.net_rate != Limit::Unlimited
                || policy.grants().net == crate::NetGrants::default(),
            "--net-rate",
        ),
        (is_time_bound, "--timeout or --fuel, for what is to end"),
    ];
    let missing: Vec<&str> = bounds.iter().filter(|(has, _)| !has).map(|(_, flag)| *flag).collect();
    // Memory is bounded always.
    let strength = (1 + bounds.len() - missing.len()) as f64 / (1 + bounds.len()) as f64;
    (strength, (!missing.is_empty()).then(|| missing.join(", ")))
}

/// The weights of mechanisms, where they are not the usual ones.
pub type Weights = BTreeMap<Mechanism, u32>;

fn weight(mechanism: Mechanism, weights: &Weights) -> f64 {
    f64::from(weights.get(&mechanism).copied().unwrap_or_else(|| mechanism.weight()))
}

/// The weighted sum of what is in force, of all that could be: from 0 to 1.
fn sum<'a>(standings: impl Iterator<Item = &'a Standing>, weights: &Weights) -> f64 {
    let (mut has, mut all) = (0.0, 0.0);
    for standing in standings {
        let weight = weight(standing.mechanism, weights);
        has += weight * standing.strength;
        all += weight;
    }
    if all > 0.0 { has / all } else { 0.0 }
}

/// The security score (definition 3.5): the weighted sum over all mechanisms, from 0 to 100.
pub fn security_score(standings: &[Standing], weights: &Weights) -> u32 {
    (sum(standings.iter(), weights) * 100.0).floor() as u32
}

/// The isolation level in each dimension (definition 3.3): the weighted sum over the mechanisms that keep it
/// apart, from 0 to 1.
pub fn isolation_levels(standings: &[Standing], weights: &Weights) -> Vec<(Dimension, f64)> {
    use Dimension::{Files, Memory, Network, Processes, Resources};
    let level = |dimension: Dimension| {
        let of_it = standings
            .iter()
            .filter(|standing| standing.mechanism.dimensions().contains(&dimension));
        (dimension, sum(of_it, weights))
    };
    [Memory, Files, Network, Processes, Resources].map(level).to_vec()
}

/// The isolation level in all: that of the weakest dimension, which is the way that an attacker takes.
pub fn isolation_level(levels: &[(Dimension, f64)]) -> f64 {
    levels.iter().map(|(_, level)| *level).fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Asks, Bytes, Ceiling, Isolation, Request, decide};
    use proptest::prelude::*;

    fn policy(change: impl FnOnce(&mut Request)) -> Policy {
        let mut request = Request::default();
        change(&mut request);
        decide(request, &Asks::default(), &Ceiling::of_machine(Bytes::mib(512))).unwrap()
    }

    fn score(policy: &Policy, host: &Surroundings) -> u32 {
        security_score(&standings(policy, host), &Weights::new())
    }

    #[test]
    fn weights_sum_to_a_hundred() {
        let sum: u32 = Mechanism::ALL.iter().map(|mechanism| mechanism.weight()).sum();
        assert_eq!(sum, 100);
        assert_eq!(Mechanism::LandlockPorts.to_string(), "landlock-ports");
    }

    #[test]
    fn statement_3_2_every_layer_counts_and_the_score_reflects_it() {
        let shared = policy(|_| ());
        let apart = policy(|request| request.security.isolation = Some(Isolation::Process));
        let (bare, hardened) = (
            Surroundings::default(),
            Surroundings { is_hardened: true, ..Surroundings::default() },
        );
        let lacking = Surroundings {
            lacks: [(Mechanism::Landlock, "a kernel".to_owned())].into(),
            ..hardened.clone()
        };
        let scores = [
            score(&shared, &bare),
            score(&shared, &hardened),
            score(&apart, &lacking),
            score(&apart, &hardened),
        ];
        assert!(scores.windows(2).all(|two| two[0] < two[1]), "{scores:?}");
        let levels = isolation_levels(&standings(&apart, &hardened), &Weights::new());
        let weaker = isolation_levels(&standings(&shared, &hardened), &Weights::new());
        assert!(levels.iter().zip(&weaker).all(|(strong, weak)| strong.1 >= weak.1));
        assert!(isolation_level(&levels) > isolation_level(&weaker));
    }

    #[test]
    fn wide_grants_cost() {
        let closed = policy(|_| ());
        let open = policy(|request| {
            request.grants.dirs.push("/srv:/srv".parse().unwrap());
            request.grants.net.network = Network::Host;
        });
        let host = Surroundings::default();
        assert!(score(&open, &host) + 15 < score(&closed, &host));
        let hints: Vec<String> =
            standings(&open, &host).into_iter().filter_map(|standing| standing.hint).collect();
        assert!(hints.iter().any(|hint| hint.contains("--network host")), "{hints:?}");
        assert!(hints.iter().any(|hint| hint.contains("/srv")), "{hints:?}");
    }

    proptest! {
        /// Whatever the weights, a score is a percentage, and a mechanism that is stronger never lowers it.
        #[test]
        fn a_score_is_monotonic(
            strengths in prop::collection::vec(0.0..=1.0f64, 16), more in 0usize..16,
            weights in prop::collection::vec(0u32..50, 16),
        ) {
            let weights: Weights = Mechanism::ALL.into_iter().zip(weights).collect();
            let with = |strengths: &[f64]| {
                let standings: Vec<Standing> = Mechanism::ALL.into_iter().zip(strengths).map(
                    |(mechanism, strength)| Standing { mechanism, strength: *strength, hint: None },
                ).collect();
                security_score(&standings, &weights)
            };
            let mut stronger = strengths.clone();
            stronger[more] = 1.0;
            prop_assert!(with(&strengths) <= with(&stronger));
            prop_assert!(with(&stronger) <= 100);
        }
    }
}
