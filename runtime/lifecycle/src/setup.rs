//! How a container is run beside its program and its policy: fixed when it is made, and saved with it.

use std::collections::BTreeMap;

use mote_engine::Call;
use serde::{Deserialize, Serialize};

use crate::health::HealthCheck;
use crate::logs::Rotation;
use crate::pool::Resources;

/// How a container is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    pub labels: BTreeMap<String, String>,
    pub call: Call,
    pub stdin: Stdin,
    pub terminal: Talks,
    pub removal: Removal,
    pub stop: Stop,
    pub log: LogSetup,
    pub health: Option<HealthCheck>,
    /// What the host has to have for it.
    pub requires: Resources,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            labels: BTreeMap::new(),
            call: Call::Main,
            stdin: Stdin::Closed,
            terminal: Talks::Streams,
            removal: Removal::ByHand,
            stop: Stop::default(),
            log: LogSetup::default(),
            health: None,
            requires: Resources::default(),
        }
    }
}

/// What a container's standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// At its end from the start.
    #[default]
    Closed,
    /// Open for whoever attaches, until the container ends.
    Open,
    /// Open until the first who attached goes.
    Once,
}

/// Whether the guest is told that it talks to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Talks {
    /// Its output and its errors stay apart.
    #[default]
    Streams,
    Terminal,
}

/// Who removes a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    #[default]
    ByHand,
    /// Its host, as soon as it has ended and is not started again.
    AtEnd,
}

/// How a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    pub grace: Grace,
    /// Seconds that the guest has to end of itself after it was told.
    pub timeout: u32,
}

impl Default for Stop {
    /// Docker's ten seconds.
    fn default() -> Stop {
        Stop { grace: Grace::Interrupt, timeout: 10 }
    }
}

/// How a guest is told to stop; WASI has no signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grace {
    /// Not at all: it ends where it is.
    #[default]
    Interrupt,
    /// Its standard input ends.
    Stdin,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSetup {
    pub driver: LogDriver,
    pub rotation: Rotation,
}

/// What keeps a container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    #[default]
    JsonFile,
    Journald,
    None,
}

impl std::str::FromStr for LogDriver {
    type Err = String;

    fn from_str(text: &str) -> Result<LogDriver, String> {
        match text {
            // Docker's and podman's names for a file of one's own.
            "json-file" | "local" | "k8s-file" => Ok(LogDriver::JsonFile),
            "journald" => Ok(LogDriver::Journald),
            "none" => Ok(LogDriver::None),
            other => {
                Err(format!("`{other}` is not a log driver: json-file, journald and none are"))
            }
        }
    }
}

impl std::fmt::Display for LogDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LogDriver::JsonFile => "json-file",
            LogDriver::Journald => "journald",
            LogDriver::None => "none",
        })
    }
}
