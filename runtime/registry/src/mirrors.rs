//! Reads containerd's `hosts.toml` (containerd, docs/hosts.md): mirrors of a registry.
//!
//! Looked for in each of the configured folders as `HOST_PORT_/`, `HOST:PORT/`, then `_default/`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::endpoint::{Endpoint, TlsVerify};
use crate::error::RegistryError;

/// What mote reads of a `hosts.toml`; keys that it does not know are an error, not a guess.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hosts {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
}

/// The mirrors of a registry, in the order of the file, and what replaces the registry itself.
pub(crate) struct Mirrors {
    pub endpoints: Vec<Endpoint>,
    pub server: Option<Endpoint>,
}

/// Reads the first `hosts.toml` that is there for the registry.
pub(crate) fn mirrors(
    folders: &[PathBuf],
    registry: &str,
) -> Result<Option<Mirrors>, RegistryError> {
    let names = [registry.replace(':', "_") + "_", registry.to_owned(), "_default".to_owned()];
    for folder in folders {
        for name in &names {
            let path = folder.join(name).join("hosts.toml");
            match std::fs::read_to_string(&path) {
                Ok(text) => return parse(&text, registry, &path).map(Some),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(RegistryError::ConfigFile { path, source }),
            }
        }
    }
    Ok(None)
}

fn parse(text: &str, registry: &str, path: &Path) -> Result<Mirrors, RegistryError> {
    let bad = |source| RegistryError::Hosts { path: path.to_owned(), source: Box::new(source) };
    let hosts: Hosts = toml::from_str(text).map_err(bad)?;
    let mut endpoints = Vec::new();
    for (base, value) in hosts.host {
        let host: Host = value.try_into().map_err(bad)?;
        let can = |what: &str| {
            host.capabilities
                .as_ref()
                .is_none_or(|has| has.iter().any(|capability| capability == what))
        };
        if can("pull") {
            endpoints.push(endpoint(&base, &host, registry, can("resolve")));
        }
    }
    let server = hosts.server.map(|base| Endpoint {
        base: base.trim_end_matches('/').to_owned(),
        verify: TlsVerify::Always,
        mirrors: None,
        resolves: true,
    });
    Ok(Mirrors { endpoints, server })
}

fn endpoint(base: &str, host: &Host, registry: &str, resolves: bool) -> Endpoint {
    let base = base.trim_end_matches('/');
    let base = if base.contains("://") { base.to_owned() } else { format!("https://{base}") };
    // With `override_path` the path already ends where `/v2` would stand.
    let base = match host.override_path {
        true => base.trim_end_matches("/v2").to_owned(),
        false => base,
    };
    let verify = if host.skip_verify { TlsVerify::Never } else { TlsVerify::Always };
    Endpoint { base, verify, mirrors: Some(registry.to_owned()), resolves }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_only_those_that_may_resolve_do() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("r.io");
        std::fs::create_dir(&place).unwrap();
        std::fs::write(
            place.join("hosts.toml"),
            "server = \"https://up.r.io\"\n[host.\"http://127.0.0.1:5000\"]\ncapabilities = [\"pull\"]\n",
        )
        .unwrap();
        let found = mirrors(&[folder.path().to_owned()], "r.io").unwrap().unwrap();
        assert_eq!(found.endpoints.len(), 1);
        assert!(!found.endpoints[0].resolves);
        assert_eq!(found.server.unwrap().base, "https://up.r.io");
        assert!(mirrors(&[folder.path().to_owned()], "other.io").unwrap().is_none());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in ["server = 1", "[host.\"x\"]\nclient = \"a.pem\"", "bogus = true"] {
            assert!(parse(bad, "r.io", Path::new("hosts.toml")).is_err(), "{bad}");
        }
    }
}
