//! The `io.mote.*` vocabulary: the same words as OCI annotations, Docker labels and Kubernetes
//! annotations, parsed into the same types as the flags.

use std::collections::BTreeMap;

use crate::grants::{Dns, GrantError};
use crate::net::RuleError;
use crate::policy::Asks;
use crate::security::SecurityError;
use crate::units::UnitError;

/// What every key of mote's starts with.
pub const ANNOTATION_PREFIX: &str = "io.mote.";

/// The keys that say what a container wants, each with the flag that says the same.
pub const KEYS: [(&str, &str); 12] = [
    ("io.mote.memory", "--memory"),
    ("io.mote.cpus", "--cpus"),
    ("io.mote.fuel", "--fuel"),
    ("io.mote.timeout", "--timeout"),
    ("io.mote.storage", "--storage-opt size="),
    ("io.mote.net-rate", "--net-rate"),
    ("io.mote.network", "--network"),
    ("io.mote.allow-net", "--allow-net"),
    ("io.mote.allow-http", "--allow-http"),
    ("io.mote.allow-dns", "--allow-dns"),
    ("io.mote.publish", "--publish"),
    ("io.mote.isolation", "--isolation"),
];

/// A text that names flags, for somebody who has annotations instead.
pub fn in_annotations(text: &str) -> String {
    let short = ("io.mote.publish", "-p");
    // Words apart, so that none is taken for a part of another.
    let text = KEYS.into_iter().chain([short]).fold(format!(" {text} "), |text, (key, flag)| {
        if flag.ends_with('=') {
            return text.replace(&format!(" {flag}"), &format!(" {key}="));
        }
        let text = text.replace(&format!("({flag})"), &format!("({key})"));
        let text = match text.strip_suffix(&format!(" {flag} ")) {
            Some(before) => format!("{before} {key} "),
            None => text,
        };
        text.replace(&format!(" {flag} "), &format!(" {key}="))
    });
    text.trim().to_owned()
}

/// Why an annotation cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    #[error("annotation {0} is not one that mote knows, which are {known}", known = known())]
    UnknownKey(String),
    #[error("annotation {key}")]
    Unit { key: String, source: UnitError },
    #[error("annotation {key}")]
    Rule { key: String, source: RuleError },
    #[error("annotation {key}")]
    Grant { key: String, source: GrantError },
    #[error("annotation {key}")]
    Security { key: String, source: SecurityError },
    #[error("annotation {key} is `{value}`, and is `true` or `false`")]
    Flag { key: String, value: String },
}

/// The keys, for a person.
fn known() -> String {
    KEYS.map(|(key, _)| key).join(", ")
}

impl Asks {
    /// Reads the `io.mote.*` annotations among `all`; others are somebody else's.
    ///
    /// Keys below `io.mote.image.` are mote's own remarks in a store and ask for nothing.
    pub fn from_annotations(all: &BTreeMap<String, String>) -> Result<Asks, AnnotationError> {
        let mut asks = Asks::default();
        for (key, value) in all {
            if key.starts_with(ANNOTATION_PREFIX) && !key.starts_with("io.mote.image.") {
                asks.set(key, value)?;
            }
        }
        Ok(asks)
    }

    /// Writes what is asked as annotations that read back to the same.
    pub fn to_annotations(&self) -> BTreeMap<String, String> {
        let Asks { limits, net, isolation } = self;
        let mut all = BTreeMap::new();
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                all.insert(format!("{ANNOTATION_PREFIX}{key}"), value);
            }
        };
        put("memory", limits.memory.map(|value| value.to_string()));
        put("cpus", limits.cpus.map(|value| value.to_string()));
        put("fuel", limits.fuel.map(|value| value.to_string()));
        put("timeout", limits.timeout.map(|value| value.to_string()));
        put("storage", limits.storage.map(|value| value.to_string()));
        put("net-rate", limits.net_rate.map(|value| value.to_string()));
        let default = crate::NetGrants::default();
        put("network", (net.network != default.network).then(|| net.network.to_string()));
        put("allow-net", words(&net.connect));
        put("allow-http", words(&net.http));
        put("allow-dns", (net.dns != default.dns).then(|| "true".to_owned()));
        put("publish", words(&net.publish));
        put("isolation", isolation.map(|isolation| isolation.to_string()));
        all
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), AnnotationError> {
        let Asks { limits, net, isolation } = self;
        match &key[ANNOTATION_PREFIX.len()..] {
            "memory" => limits.memory = Some(unit(key, value)?),
            "cpus" => limits.cpus = Some(unit(key, value)?),
            "fuel" => limits.fuel = Some(unit(key, value)?),
            "timeout" => limits.timeout = Some(unit(key, value)?),
            "storage" => limits.storage = Some(unit(key, value)?),
            "net-rate" => limits.net_rate = Some(unit(key, value)?),
            "network" => {
                net.network = value
                    .parse()
                    .map_err(|source| AnnotationError::Grant { key: key.into(), source })?;
            }
            "allow-net" => net.connect = rules(key, value)?,
            "allow-http" => net.http = rules(key, value)?,
            "publish" => net.publish = rules(key, value)?,
            "isolation" => {
                let read = value.parse();
                *isolation = Some(
                    read.map_err(|source| AnnotationError::Security { key: key.into(), source })?,
                );
            }
            "allow-dns" => {
                net.dns = match value {
                    "true" => Dns::Allowed,
                    "false" => Dns::RulesOnly,
                    _ => {
                        return Err(AnnotationError::Flag { key: key.into(), value: value.into() });
                    }
                }
            }
            _ => return Err(AnnotationError::UnknownKey(key.into())),
        }
        Ok(())
    }
}

/// Several rules are written one after another with white space between.
fn words<T: ToString>(rules: &[T]) -> Option<String> {
    let words: Vec<String> = rules.iter().map(T::to_string).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn unit<T: std::str::FromStr<Err = UnitError>>(
    key: &str,
    value: &str,
) -> Result<T, AnnotationError> {
    value.parse().map_err(|source| AnnotationError::Unit { key: key.into(), source })
}

fn rules<T: std::str::FromStr<Err = RuleError>>(
    key: &str,
    value: &str,
) -> Result<Vec<T>, AnnotationError> {
    let rule = |word: &str| word.parse();
    let all: Result<Vec<T>, RuleError> = value.split_whitespace().map(rule).collect();
    all.map_err(|source| AnnotationError::Rule { key: key.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asks(pairs: &[(&str, &str)]) -> Result<Asks, AnnotationError> {
        let all = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Asks::from_annotations(&all)
    }

    #[test]
    fn a_hint_names_what_its_reader_can_say() {
        for (flag, annotation) in [
            ("allow it with --allow-net tcp://a:1", "allow it with io.mote.allow-net=tcp://a:1"),
            ("allow it with -p HOST_PORT:80", "allow it with io.mote.publish=HOST_PORT:80"),
            ("give it more with --memory", "give it more with io.mote.memory"),
            ("its limit of 1 (--memory)", "its limit of 1 (io.mote.memory)"),
            ("with --storage-opt size=1m", "with io.mote.storage=1m"),
            ("--memory 1 is above", "io.mote.memory=1 is above"),
            ("nothing to see", "nothing to see"),
        ] {
            assert_eq!(in_annotations(flag), annotation);
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error_and_a_strangers_key_is_not() {
        assert!(asks(&[("io.mote.memroy", "1g")]).is_err());
        assert!(asks(&[("io.mote.memory", "lots")]).is_err());
        assert_eq!(asks(&[("org.example.memory", "lots")]), Ok(Asks::default()));
    }

    #[test]
    fn every_key_is_read() {
        let values = [
            "1g",
            "0.5",
            "100",
            "5s",
            "1m",
            "1m",
            "host",
            "tcp://a.b:1 udp://*:2",
            "https://a.b",
            "true",
            "80:80",
            "process",
        ];
        for ((key, _), value) in KEYS.iter().zip(values) {
            let read = asks(&[(key, value)]).unwrap();
            assert_ne!(read, Asks::default(), "{key}");
            assert_eq!(Asks::from_annotations(&read.to_annotations()), Ok(read), "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_itself(
            memory in prop::option::of(any::<u64>()), fuel in prop::option::of(1u64..),
            ports in prop::collection::vec(1u16.., 0..4), host in any::<bool>(), dns in any::<bool>(),
        ) {
            let mut asked = Asks::default();
            asked.limits.memory = memory.map(crate::Bytes::new);
            asked.limits.fuel = fuel.map(crate::Fuel::new);
            asked.net.connect = ports.iter().map(|port| format!("tcp://a.b:{port}").parse().unwrap()).collect();
            asked.net.publish = ports.iter().map(|port| format!("{port}:{port}").parse().unwrap()).collect();
            if host { asked.net.network = crate::Network::Host; }
            if dns { asked.net.dns = Dns::Allowed; }
            prop_assert_eq!(Asks::from_annotations(&asked.to_annotations()), Ok(asked));
        }
    }
}
