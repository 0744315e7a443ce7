//! What stands between a guest and its host besides the sandbox, as an operator asks for it.
//!
//! A description that can be saved; `engine` raises the wall that it describes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;

/// What a guest shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Isolation {
    /// Its host's process.
    #[default]
    Shared,
    /// No process: it has one of its own, behind every layer that the kernel has.
    Process,
    /// The same; a layer that the kernel lacks is an error.
    Strict,
}

/// Who a process runs as, and in which group: `UID[:GID]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId {
    pub uid: u32,
    pub gid: u32,
}

/// A capability by its name (capabilities(7)), such as `CAP_CHOWN`; `CHOWN` and `chown` are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability(String);

impl Capability {
    /// Every capability of Linux 6.
    pub(crate) fn all() -> impl Iterator<Item = Capability> {
        CAPABILITIES.iter().map(|name| Capability((*name).to_owned()))
    }
}

/// Every capability of Linux 6.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What of the capabilities a flag speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Capabilities {
    All,
    One(Capability),
}

/// An option of docker's and podman's `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOpt {
    /// What every process of a guest has.
    NoNewPrivileges,
    /// A seccomp profile as the OCI runtime specification has it, or the path of a file that holds it.
    Seccomp(String),
    /// An AppArmor profile that the kernel has loaded.
    AppArmor(String),
    /// What is asked for is so in any case.
    Given,
}

/// What an operator said of a guest's wall.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecurityWants {
    pub isolation: Option<Isolation>,
    pub user: Option<UserId>,
    pub cap_add: Vec<Capabilities>,
    pub cap_drop: Vec<Capabilities>,
    /// The profile itself.
    pub seccomp: Option<String>,
    pub apparmor: Option<String>,
}

/// What a guest's wall is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    pub isolation: Isolation,
    /// Who its process runs as; none is whoever runs mote.
    pub user: Option<UserId>,
    /// What its process is to be without, that it would have.
    pub dropped: BTreeSet<Capability>,
    /// A seccomp profile (OCI runtime specification, JSON) beside mote's own.
    pub seccomp: Option<String>,
    pub apparmor: Option<String>,
}

/// Why a text says nothing of a wall.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    #[error("`{0}` is not an isolation: shared, process and process=strict are")]
    Isolation(String),
    #[error("`{0}` is not a user: write UID or UID:GID, in numbers")]
    User(String),
    #[error("`{0}` is not a capability of Linux")]
    Capability(String),
    #[error("--security-opt {0} cannot be honoured: {1}")]
    Option(String, &'static str),
}

impl Security {
    /// Whether the guest has a process of its own.
    pub fn is_apart(&self) -> bool {
        self.isolation != Isolation::Shared
    }
}

impl SecurityWants {
    /// Adds what an option says.
    pub fn add(&mut self, option: SecurityOpt) {
        match option {
            SecurityOpt::NoNewPrivileges | SecurityOpt::Given => {}
            SecurityOpt::Seccomp(profile) => self.seccomp = Some(profile),
            SecurityOpt::AppArmor(profile) => self.apparmor = Some(profile),
        }
    }
}

impl Capability {
    /// Its name in full, such as `CAP_CHOWN`.
    pub fn full_name(&self) -> String {
        format!("CAP_{}", self.0)
    }
}

impl FromStr for Isolation {
    type Err = SecurityError;

    fn from_str(text: &str) -> Result<Isolation, SecurityError> {
        match text {
            "shared" => Ok(Isolation::Shared),
            "process" => Ok(Isolation::Process),
            "process=strict" => Ok(Isolation::Strict),
            other => Err(SecurityError::Isolation(other.to_owned())),
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isolation::Shared => "shared",
            Isolation::Process => "process",
            Isolation::Strict => "process=strict",
        })
    }
}

impl FromStr for UserId {
    type Err = SecurityError;

    fn from_str(text: &str) -> Result<UserId, SecurityError> {
        let bad = || SecurityError::User(text.to_owned());
        let number = |text: &str| match text.parse() {
            // The kernel's word for "no change".
            Ok(u32::MAX) | Err(_) => Err(bad()),
            Ok(number) => Ok(number),
        };
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        Ok(UserId { uid: number(uid)?, gid: number(gid)? })
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for Capability {
    type Err = SecurityError;

    fn from_str(text: &str) -> Result<Capability, SecurityError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match CAPABILITIES.contains(&name) {
            true => Ok(Capability(name.to_owned())),
            false => Err(SecurityError::Capability(text.to_owned())),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Capabilities {
    type Err = SecurityError;

    fn from_str(text: &str) -> Result<Capabilities, SecurityError> {
        match text.eq_ignore_ascii_case("all") {
            true => Ok(Capabilities::All),
            false => text.parse().map(Capabilities::One),
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capabilities::All => f.write_str("ALL"),
            Capabilities::One(capability) => capability.fmt(f),
        }
    }
}

impl FromStr for SecurityOpt {
    type Err = SecurityError;

    /// Reads `KEY=VALUE`, or `KEY:VALUE` as docker once wrote it.
    fn from_str(text: &str) -> Result<SecurityOpt, SecurityError> {
        let cannot = |why| Err(SecurityError::Option(text.to_owned(), why));
        let parted = text.split_once('=').or_else(|| text.split_once(':'));
        match parted.unwrap_or((text, "")) {
            ("no-new-privileges", "" | "true") => Ok(SecurityOpt::NoNewPrivileges),
            ("no-new-privileges", _) => cannot("a guest's process never gets new privileges"),
            ("seccomp", "unconfined") => cannot("mote's own filter stays"),
            ("seccomp", "builtin" | "default") => Ok(SecurityOpt::Given),
            ("seccomp", profile) if !profile.is_empty() => {
                Ok(SecurityOpt::Seccomp(profile.to_owned()))
            }
            ("apparmor", "unconfined") => Ok(SecurityOpt::Given),
            ("apparmor", profile) if !profile.is_empty() => {
                Ok(SecurityOpt::AppArmor(profile.to_owned()))
            }
            ("label", "disable") => Ok(SecurityOpt::Given),
            ("label", _) => cannot("mote sets no SELinux labels"),
            ("systempaths" | "mask" | "unmask", _) => cannot("a guest sees no system paths"),
            _ => cannot("no-new-privileges, seccomp=FILE and apparmor=PROFILE can be"),
        }
    }
}

serde_as_text!(Isolation, UserId, Capability);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_print_as_they_parse() {
        for text in ["shared", "process", "process=strict"] {
            assert_eq!(text.parse::<Isolation>().unwrap().to_string(), text);
        }
        for (text, printed) in [("7", "7:7"), ("0:12", "0:12")] {
            assert_eq!(text.parse::<UserId>().unwrap().to_string(), printed);
        }
        for (text, printed) in [("cap_chown", "CHOWN"), ("Chown", "CHOWN"), ("all", "ALL")] {
            assert_eq!(text.parse::<Capabilities>().unwrap().to_string(), printed);
        }
        for bad in ["", "-1", "me", "1:", ":1", "4294967295", "1:2:3"] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
        assert!("CAP_FLY".parse::<Capabilities>().is_err());
        assert!("process=lax".parse::<Isolation>().is_err());
    }

    #[test]
    fn what_an_option_cannot_be_honoured_for_is_said() {
        for good in ["no-new-privileges", "no-new-privileges:true", "label=disable"] {
            assert!(good.parse::<SecurityOpt>().is_ok(), "{good}");
        }
        assert_eq!("seccomp=/a".parse(), Ok(SecurityOpt::Seccomp("/a".to_owned())));
        for bad in ["", "seccomp=unconfined", "seccomp=", "label=type:x", "no-new-privileges=false"]
        {
            assert!(bad.parse::<SecurityOpt>().is_err(), "{bad}");
        }
    }
}
