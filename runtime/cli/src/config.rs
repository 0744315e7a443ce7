//! The host's configuration: `/etc/mote/config.toml`, and a user's own `~/.config/mote/config.toml`.
//!
//! A user's file adds to the system's, and its ceiling can only be lower.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mote_engine::{COMPILE_TIMEOUT, Profile, UnknownProfile};
use mote_lifecycle::Resources;
use mote_spec::{Bounds, Bytes, Ceiling, CeilingTable, DefaultsTable, Rate, Timeout, Weights};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::CliError;

/// What the files say, a user's first.
#[derive(Debug, Default)]
pub(crate) struct Config {
    files: Vec<ConfigFile>,
}

/// A file's content. Keys that mote does not know are an error: a misspelt limit must not be
/// no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    /// Limits of containers that ask for none.
    defaults: DefaultsTable,
    /// Limits that no container may be above.
    ceiling: CeilingTable,
    bounds: Option<Bounds>,
    registries: Registries,
    engine: EngineTable,
    security: SecurityTable,
    daemon: DaemonTable,
    /// Containerd's shim reads it.
    #[serde(rename = "shim")]
    _shim: IgnoredAny,
}

/// How registries are reached.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Registries {
    pub(crate) plain_http: Vec<String>,
    pub(crate) mirrors: Vec<PathBuf>,
    pub(crate) authorities: Vec<PathBuf>,
    /// A download that brings nothing for so long is resumed on another connection.
    pub(crate) stall: Option<Timeout>,
    /// How long a pull may take in all.
    pub(crate) deadline: Option<Timeout>,
    /// Hosts of private networks that registries may have credentials sent to.
    pub(crate) token_servers: Vec<String>,
}

/// How the engine uses the machine.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EngineTable {
    /// `micro`, `gateway` or `server`; by default what the machine can bear.
    profile: Option<String>,
    /// How long a program may take to compile; by default five minutes.
    compile_timeout: Option<Timeout>,
}

/// How `mote security` reckons.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SecurityTable {
    /// How much each mechanism counts, by its name.
    weights: Weights,
}

/// What containers of the daemon may require together, and how their output is written.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DaemonTable {
    /// By default what the machine has.
    memory: Option<Bytes>,
    /// CPUs, such as 4.
    cpus: Option<f64>,
    storage: Option<Bytes>,
    /// Network bytes in a second; without it nothing is reserved.
    network: Option<Rate>,
    /// So many times what there is may be required.
    overcommit: Overcommit,
    /// How long output may wait in memory before it is written: flash wears with every write.
    flush_every: Option<Timeout>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Overcommit {
    memory: f64,
    cpus: f64,
    storage: f64,
    network: f64,
}

impl Default for Overcommit {
    fn default() -> Overcommit {
        Overcommit { memory: 1.0, cpus: 1.0, storage: 1.0, network: 1.0 }
    }
}

/// How long output waits where the configuration says nothing.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

impl DaemonTable {
    /// What containers may require together on a machine that has so much.
    pub(crate) fn resources(&self, machine: Resources) -> Resources {
        let Overcommit { memory, cpus, storage, network } = self.overcommit;
        let capped = |own: u64, most: Option<u64>| most.map_or(own, |most| own.min(most));
        let times = |amount: u64, factor: f64| (amount as f64 * factor.max(0.0)) as u64;
        let cpu_millis = self.cpus.map(|cpus| (cpus.max(0.0) * 1000.0) as u64);
        Resources {
            memory: times(capped(machine.memory, self.memory.map(Bytes::get)), memory),
            cpu: times(capped(machine.cpu, cpu_millis), cpus),
            storage: times(capped(machine.storage, self.storage.map(Bytes::get)), storage),
            network: times(capped(machine.network, self.network.map(Rate::per_second)), network),
        }
    }

    pub(crate) fn flush_every(&self) -> Duration {
        self.flush_every.map_or(FLUSH_EVERY, Timeout::duration)
    }
}

impl Config {
    /// What the files say of the daemon; a user's own file goes before the system's.
    pub(crate) fn daemon(&self) -> DaemonTable {
        self.files.first().map(|file| file.daemon.clone()).unwrap_or_default()
    }

    /// Reads the files that are there.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Config, CliError> {
        let mut files = Vec::new();
        for path in paths {
            match std::fs::read_to_string(path) {
                Ok(text) => files.push(parse(&text, path)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(CliError::new(format!("cannot read {}: {error}", path.display())));
                }
            }
        }
        Ok(Config { files })
    }

    /// How much each mechanism of security counts, where a file says so.
    pub(crate) fn weights(&self) -> Weights {
        // A user's own go before the system's.
        let all = self.files.iter().rev().flat_map(|file| file.security.weights.clone());
        all.collect()
    }

    /// The engine's profile, where a file names one.
    pub(crate) fn profile(&self) -> Result<Option<Profile>, CliError> {
        let named = self.files.iter().find_map(|file| file.engine.profile.as_deref());
        named.map(str::parse).transpose().map_err(|error: UnknownProfile| {
            CliError::new(format!("the configuration's [engine] cannot be followed: {error}"))
        })
    }

    /// How long a program may take to compile; a user's own file goes before the system's.
    pub(crate) fn compile_timeout(&self) -> Duration {
        let said = self.files.iter().find_map(|file| file.engine.compile_timeout);
        said.map_or(COMPILE_TIMEOUT, Timeout::duration)
    }

    /// How registries are reached, all files together.
    pub(crate) fn registries(&self) -> Registries {
        let mut all = Registries::default();
        for file in &self.files {
            let Registries { plain_http, mirrors, authorities, stall, deadline, token_servers } =
                file.registries.clone();
            all.plain_http.extend(plain_http);
            all.mirrors.extend(mirrors);
            all.authorities.extend(authorities);
            all.token_servers.extend(token_servers);
            all.stall = all.stall.or(stall);
            all.deadline = all.deadline.or(deadline);
        }
        all
    }

    /// The ceiling that the files set on a machine with so much memory.
    pub(crate) fn ceiling(&self, memory: Bytes) -> Ceiling {
        // The system's file comes last in the list and says how far a user's own may go.
        let mut files = self.files.iter().rev();
        let machine = Ceiling::of_machine(memory);
        let Some(first) = files.next() else { return machine };
        files.fold(first.over(machine), |above, file| file.over(above.clone()).at_most(&above))
    }
}

impl ConfigFile {
    /// The ceiling of this file, and another's where it is silent.
    fn over(&self, base: Ceiling) -> Ceiling {
        base.overlaid(&self.defaults, &self.ceiling, self.bounds)
    }
}

fn parse(text: &str, path: &Path) -> Result<ConfigFile, CliError> {
    toml::from_str(text)
        .map_err(|error| CliError::new(format!("{} cannot be understood: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use mote_spec::{Network, Volumes};

    use super::*;

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let path = Path::new("config.toml");
        assert!(parse("[ceiling]\nmemroy = \"1g\"", path).is_err());
        assert!(parse("[ceiling]\nmemory = \"lots\"", path).is_err());
        assert!(parse("[bounds]\nstack = \"8m\"", path).is_err());
        let ceiling = ceiling_of(&[
            "[ceiling]\nmemory = \"1g\"\nvolumes = [\"/srv\"]\n[defaults]\nmemory = \"64m\"",
        ]);
        assert_eq!(ceiling.most.memory, Bytes::mib(1024));
        assert_eq!(ceiling.defaults.memory, Bytes::mib(64));
        assert_eq!(ceiling.volumes, Volumes::Below(vec!["/srv".into()]));
    }

    fn ceiling_of(files: &[&str]) -> Ceiling {
        let parse = |text: &&str| parse(text, Path::new("config.toml")).unwrap();
        Config { files: files.iter().map(parse).collect() }.ceiling(Bytes::mib(4096))
    }

    #[test]
    fn a_users_file_stays_below_the_systems() {
        let system = "[ceiling]\nmemory = \"1g\"\nvolumes = [\"/srv\"]\nnetwork = \"rules\"";
        let user = "[ceiling]\nmemory = \"2g\"\nvolumes = [\"/etc\", \"/srv/me\"]\nnetwork = \"host\"\n[defaults]\nmemory = \"3g\"";
        let ceiling = ceiling_of(&[user, system]);
        assert_eq!(ceiling.most.memory, Bytes::mib(1024));
        assert_eq!(ceiling.defaults.memory, Bytes::mib(1024));
        assert_eq!(ceiling.volumes, Volumes::Below(vec!["/srv/me".into()]));
        assert_eq!(ceiling.network, Network::Rules);
        assert_eq!(ceiling_of(&["[ceiling]\nmemory = \"8m\"", system]).most.memory, Bytes::mib(8));
        assert_eq!(ceiling_of(&["", system]), ceiling_of(&[system]));
    }
}
