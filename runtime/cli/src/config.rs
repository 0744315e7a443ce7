//! The host's configuration: `/etc/mote/config.toml`, or `~/.config/mote/config.toml`.

use std::io;
use std::path::{Path, PathBuf};

use mote_spec::{
    Bounds, Bytes, Ceiling, CpuShare, Fuel, LimitWants, Network, Rate, Timeout, Volumes,
};
use serde::Deserialize;

use crate::error::CliError;

/// The file's content. Keys that mote does not know are an error: a misspelt limit must not be
/// no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Limits of containers that ask for none.
    defaults: LimitsTable,
    /// Limits that no container may be above.
    ceiling: CeilingTable,
    bounds: Bounds,
    pub(crate) registries: Registries,
    pub(crate) engine: EngineTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsTable {
    memory: Option<Bytes>,
    cpus: Option<CpuShare>,
    fuel: Option<Fuel>,
    timeout: Option<Timeout>,
    storage: Option<Bytes>,
    net_rate: Option<Rate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CeilingTable {
    memory: Option<Bytes>,
    cpus: Option<CpuShare>,
    fuel: Option<Fuel>,
    timeout: Option<Timeout>,
    storage: Option<Bytes>,
    net_rate: Option<Rate>,
    /// Folders that volumes may come from.
    volumes: Option<Vec<PathBuf>>,
    network: Option<Network>,
}

/// How registries are reached.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Registries {
    pub(crate) plain_http: Vec<String>,
    pub(crate) mirrors: Vec<PathBuf>,
    pub(crate) authorities: Vec<PathBuf>,
    /// A download that brings nothing for so long is resumed on another connection.
    pub(crate) stall: Option<Timeout>,
}

/// How the engine uses the machine.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EngineTable {
    /// `micro`, `gateway` or `server`; by default what the machine can bear.
    pub(crate) profile: Option<String>,
}

impl Config {
    /// Reads the first file that is there.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Config, CliError> {
        for path in paths {
            match std::fs::read_to_string(path) {
                Ok(text) => return parse(&text, path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(CliError::new(format!("cannot read {}: {error}", path.display())));
                }
            }
        }
        Ok(Config::default())
    }

    /// The ceiling that the file sets on a machine with so much memory.
    pub(crate) fn ceiling(&self, memory: Bytes) -> Ceiling {
        let machine = Ceiling::of_machine(memory);
        let defaults = machine.defaults.with(self.defaults.wants());
        let most = machine.most.with(self.ceiling.wants());
        let volumes = match &self.ceiling.volumes {
            Some(roots) => Volumes::Below(roots.clone()),
            None => machine.volumes,
        };
        Ceiling {
            defaults: mote_spec::Limits { bounds: self.bounds, ..defaults }.at_most(&most),
            most: mote_spec::Limits { bounds: self.bounds, ..most },
            volumes,
            network: self.ceiling.network.unwrap_or(machine.network),
        }
    }
}

fn parse(text: &str, path: &Path) -> Result<Config, CliError> {
    toml::from_str(text)
        .map_err(|error| CliError::new(format!("{} cannot be understood: {error}", path.display())))
}

impl LimitsTable {
    fn wants(&self) -> LimitWants {
        let LimitsTable { memory, cpus, fuel, timeout, storage, net_rate } = *self;
        LimitWants { memory, cpus, fuel, timeout, storage, net_rate }
    }
}

impl CeilingTable {
    fn wants(&self) -> LimitWants {
        let CeilingTable { memory, cpus, fuel, timeout, storage, net_rate, volumes: _, network: _ } =
            self;
        LimitWants {
            memory: *memory,
            cpus: *cpus,
            fuel: *fuel,
            timeout: *timeout,
            storage: *storage,
            net_rate: *net_rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let path = Path::new("config.toml");
        assert!(parse("[ceiling]\nmemroy = \"1g\"", path).is_err());
        assert!(parse("[ceiling]\nmemory = \"lots\"", path).is_err());
        let config = parse(
            "[ceiling]\nmemory = \"1g\"\nvolumes = [\"/srv\"]\n[defaults]\nmemory = \"64m\"",
            path,
        )
        .unwrap();
        let ceiling = config.ceiling(Bytes::mib(4096));
        assert_eq!(ceiling.most.memory, Bytes::mib(1024));
        assert_eq!(ceiling.defaults.memory, Bytes::mib(64));
        assert_eq!(ceiling.volumes, Volumes::Below(vec!["/srv".into()]));
    }
}
