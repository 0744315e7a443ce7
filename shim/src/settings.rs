//! How this node runs containers: its configuration file, and what containerd's own configuration says of
//! the runtime, which goes before it.
//!
//! containerd passes the runtime's `options` on as they are (`runtimeoptions.v1.Options`); they may hold the
//! tables of `/etc/mote/config.toml` that concern a container, or name another file with them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message};
use containerd_shim_protos::shim::oci;
use mote_engine::{COMPILE_TIMEOUT, Profile, machine_memory};
use mote_spec::{Bounds, Ceiling, CeilingTable, DefaultsTable, Timeout, Volumes};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::ShimError;

/// What a node gives and allows.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) ceiling: Ceiling,
    pub(crate) profile: Profile,
    /// How long a program may take to compile.
    pub(crate) compile_timeout: Duration,
    /// The program that makes native containers.
    pub(crate) oci_runtime: String,
}

/// A node's configuration file, which need not be there.
#[derive(Debug, Clone)]
pub(crate) struct NodeFile {
    pub(crate) path: PathBuf,
    /// Whether it is another than the usual one: then it must be there.
    pub(crate) is_named: bool,
}

/// A file's content, or that of options: they have the same keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tables {
    defaults: DefaultsTable,
    ceiling: CeilingTable,
    bounds: Option<Bounds>,
    engine: EngineTable,
    shim: ShimTable,
    /// The command line's and the daemon's.
    #[serde(rename = "registries")]
    _registries: IgnoredAny,
    #[serde(rename = "daemon")]
    _daemon: IgnoredAny,
    /// What is said to runc's own shim, and so often stands here: the form of a cgroup's path tells it.
    #[serde(rename = "SystemdCgroup")]
    _systemd_cgroup: IgnoredAny,
    #[serde(rename = "BinaryName")]
    binary_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EngineTable {
    profile: Option<String>,
    compile_timeout: Option<Timeout>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ShimTable {
    /// `runc` by default; a name on containerd's `PATH`, or a path.
    oci_runtime: Option<String>,
}

/// What containerd's options say: a file, or the tables themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    config_path: String,
    config_body: String,
    binary_name: String,
}

impl Settings {
    /// Reads a node's file, which need not be there, and a container's options.
    ///
    /// # Errors
    /// Fails if one of them cannot be understood: a misspelt limit must not be no limit.
    pub(crate) fn read(node: &NodeFile, options: Option<&Any>) -> Result<Settings, ShimError> {
        let mut tables = Vec::new();
        let NodeFile { path, is_named } = node;
        match std::fs::read_to_string(path) {
            Ok(text) => tables.push(parse(&text, &path.display().to_string())?),
            // One that somebody has named is missed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {}
            Err(source) => return Err(ShimError::File { path: path.clone(), source }),
        }
        let options = options.map(Options::read).transpose()?.unwrap_or_default();
        if !options.config_path.is_empty() {
            let text = std::fs::read_to_string(&options.config_path).map_err(|source| {
                ShimError::File { path: options.config_path.clone().into(), source }
            })?;
            tables.push(parse(&text, &options.config_path)?);
        }
        if !options.config_body.is_empty() {
            tables.push(parse(&options.config_body, "the runtime's options")?);
        }
        Settings::of(&tables, options.binary_name)
    }

    /// The later ones go before the earlier.
    fn of(tables: &[Tables], binary_name: String) -> Result<Settings, ShimError> {
        let mut settings = Settings {
            ceiling: Ceiling::of_machine(machine_memory()),
            profile: Profile::detect(),
            compile_timeout: COMPILE_TIMEOUT,
            oci_runtime: "runc".to_owned(),
        };
        for table in tables {
            let Tables { defaults, ceiling, bounds, engine, shim, .. } = table;
            settings.ceiling = settings.ceiling.overlaid(defaults, ceiling, *bounds);
            if let Some(profile) = &engine.profile {
                let bad =
                    |error: mote_engine::UnknownProfile| ShimError::Invalid(error.to_string());
                settings.profile = profile.parse().map_err(bad)?;
            }
            if let Some(timeout) = engine.compile_timeout {
                settings.compile_timeout = timeout.duration();
            }
            if let Some(runtime) = shim.oci_runtime.as_ref().or(table.binary_name.as_ref()) {
                settings.oci_runtime.clone_from(runtime);
            }
        }
        if !binary_name.is_empty() {
            settings.oci_runtime = binary_name;
        }
        // What is mounted is Kubernetes' to allow: its own files are volumes as well, and so is the root.
        settings.ceiling.volumes = Volumes::Anywhere;
        Ok(settings)
    }
}

fn parse(text: &str, whose: &str) -> Result<Tables, ShimError> {
    let bad = |error: toml::de::Error| {
        ShimError::Invalid(format!("{whose} cannot be understood: {error}"))
    };
    toml::from_str(text).map_err(bad)
}

impl Options {
    fn read(any: &Any) -> Result<Options, ShimError> {
        let bad = |source| ShimError::Message { what: "the runtime's options", source };
        match any.type_url.rsplit('/').next().unwrap_or_default() {
            "runtimeoptions.v1.Options" | "containerd.runtimeoptions.v1.Options" => {
                Options::generic(&any.value).map_err(bad)
            }
            // nerdctl sends these to every runtime.
            "containerd.runc.v1.Options" => {
                let options = oci::Options::parse_from_bytes(&any.value).map_err(bad)?;
                Ok(Options { binary_name: options.binary_name, ..Options::default() })
            }
            "" if any.value.is_empty() => Ok(Options::default()),
            other => Err(ShimError::Invalid(format!(
                "options of type {other} are not understood: runtimeoptions.v1.Options are"
            ))),
        }
    }

    /// `runtimeoptions.v1.Options`, which no crate has: `type_url`, `config_path`, `config_body`.
    fn generic(bytes: &[u8]) -> Result<Options, containerd_shim_protos::protobuf::Error> {
        let mut options = Options::default();
        let mut input = CodedInputStream::from_bytes(bytes);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match tag >> 3 {
                2 => options.config_path = input.read_string()?,
                3 => options.config_body = input.read_string()?,
                // The name of the type, or a field to come: each is a text.
                _ => drop(input.read_bytes()?),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use mote_spec::Bytes;

    use super::*;

    fn generic(path: &str, body: &str) -> Any {
        let field = |number: u8, text: &str| {
            [&[number << 3 | 2, text.len() as u8][..], text.as_bytes()].concat()
        };
        let value = [field(1, "x"), field(2, path), field(3, body)].concat();
        Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Any::default() }
    }

    #[test]
    fn what_containerd_is_configured_with_goes_before_the_nodes_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let node = NodeFile { path: file.clone(), is_named: false };
        let read = |options: Option<&Any>| Settings::read(&node, options);
        assert_eq!(read(None).unwrap().oci_runtime, "runc", "no file is fine");
        let named = NodeFile { path: file.clone(), is_named: true };
        assert!(Settings::read(&named, None).is_err(), "one that was named is missed");
        std::fs::write(
            &file,
            "[ceiling]\nmemory = \"64m\"\n[daemon]\nmemory = \"1g\"\n[shim]\noci_runtime = \"crun\"",
        )
        .unwrap();
        let settings = read(None).unwrap();
        assert_eq!(settings.ceiling.most.memory, Bytes::mib(64));
        assert_eq!(settings.oci_runtime, "crun");
        let body = generic("", "SystemdCgroup = true\n[ceiling]\nmemory = \"32m\"");
        assert_eq!(read(Some(&body)).unwrap().ceiling.most.memory, Bytes::mib(32));
        let other = folder.path().join("other.toml");
        std::fs::write(&other, "BinaryName = \"youki\"").unwrap();
        let path = generic(other.to_str().unwrap(), "");
        let settings = read(Some(&path)).unwrap();
        assert_eq!(settings.oci_runtime, "youki");
        assert_eq!(settings.ceiling.most.memory, Bytes::mib(64));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let nowhere = NodeFile { path: "/nowhere/config.toml".into(), is_named: false };
        let error = |any: &Any| Settings::read(&nowhere, Some(any)).unwrap_err().text();
        assert!(error(&generic("", "[ceiling]\nmemroy = 1")).contains("memroy"));
        assert!(error(&generic("/nowhere/x", "")).contains("/nowhere/x"));
        let other = Any { type_url: "acme.Options".into(), ..Any::default() };
        assert!(error(&other).contains("acme.Options"));
    }
}
