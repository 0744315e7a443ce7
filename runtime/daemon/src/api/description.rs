//! Docker's description of a container, as its clients write it: what of it is understood.

use std::collections::BTreeMap;

use mote_lifecycle::RestartPolicy;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{DaemonError, bad};

/// Docker's description, as far as it is understood.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Spec {
    pub(super) image: String,
    #[serde(deserialize_with = "words")]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) working_dir: String,
    pub(super) user: String,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) tty: bool,
    pub(super) open_stdin: bool,
    pub(super) stdin_once: bool,
    pub(super) stop_timeout: Option<i64>,
    pub(super) stop_signal: String,
    pub(super) healthcheck: Option<HealthSpec>,
    pub(super) volumes: Option<BTreeMap<String, Value>>,
    pub(super) host_config: Option<HostSpec>,
    pub(super) networking_config: NetworksSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworksSpec {
    pub(super) endpoints_config: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostSpec {
    pub(super) binds: Option<Vec<String>>,
    pub(super) mounts: Option<Vec<MountSpec>>,
    pub(super) tmpfs: Option<BTreeMap<String, String>>,
    pub(super) port_bindings: Option<BTreeMap<String, Option<Vec<PortSpec>>>>,
    pub(super) network_mode: String,
    pub(super) restart_policy: Option<RestartSpec>,
    pub(super) auto_remove: bool,
    pub(super) log_config: LogSpec,
    pub(super) readonly_rootfs: bool,
    pub(super) cap_add: Option<Vec<String>>,
    pub(super) cap_drop: Option<Vec<String>>,
    pub(super) security_opt: Option<Vec<String>>,
    pub(super) memory: i64,
    pub(super) memory_reservation: i64,
    pub(super) nano_cpus: i64,
    pub(super) cpu_quota: i64,
    pub(super) cpu_period: i64,
    pub(super) storage_opt: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct MountSpec {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) tmpfs_options: Option<TmpfsSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TmpfsSpec {
    pub(super) size_bytes: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PortSpec {
    pub(super) host_ip: String,
    pub(super) host_port: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct LogSpec {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) config: Option<BTreeMap<String, String>>,
}

/// Docker's restart policy.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RestartSpec {
    pub(super) name: String,
    pub(super) maximum_retry_count: i64,
}

/// Docker's health check; times are in nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HealthSpec {
    pub(super) test: Option<Vec<String>>,
    pub(super) interval: i64,
    pub(super) timeout: i64,
    pub(super) start_period: i64,
    pub(super) start_interval: i64,
    pub(super) retries: i64,
}

/// Docker's clients write a list of words, or one word.
fn words<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(Option::<Words>::deserialize(from)?.map(|words| match words {
        Words::Many(words) => words,
        Words::One(word) => vec![word],
    }))
}

impl RestartSpec {
    /// The policy; none where the client says nothing.
    pub(crate) fn policy(&self) -> Result<Option<RestartPolicy>, DaemonError> {
        let text = match (self.name.as_str(), positive(self.maximum_retry_count)) {
            ("", _) => return Ok(None),
            ("on-failure", Some(most)) => format!("on-failure:{most}"),
            (name, _) => name.to_owned(),
        };
        text.parse().map(Some).map_err(bad)
    }
}

/// A number that docker means: nothing and less than nothing stand for none.
pub(crate) fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}
