//! What a container may touch. A description that can be saved; authority is `engine`'s business.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::{HttpRule, NetRule, Publish};
use crate::text::serde_as_text;
use crate::units::{Bytes, UnitError};

/// Whether something may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// An absolute path as the guest sees it, without `.`, `..` and empty parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuestPath(String);

impl GuestPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A directory of the host that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DirGrant {
    pub host: PathBuf,
    pub guest: GuestPath,
    pub access: Access,
}

/// Scratch space of the container's own, empty at its start and gone at its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scratch {
    pub guest: GuestPath,
    pub size: Bytes,
}

impl Scratch {
    /// The size where none is given.
    pub const DEFAULT_SIZE: Bytes = Bytes::mib(64);
}

/// The image's own files, where it has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// A private copy that the guest may change, gone at its end.
    #[default]
    Copy,
    /// The image's files as they are, and no writing.
    ReadOnly,
}

/// How much of the host's network a container has.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// What the rules allow; nothing where there is none.
    #[default]
    Rules,
    /// Everything that the host can reach.
    Host,
}

/// Whether names outside the rules may be looked up.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Dns {
    /// Only names that a rule names.
    #[default]
    RulesOnly,
    Allowed,
}

/// The network part of the grants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetGrants {
    pub network: Network,
    pub connect: Vec<NetRule>,
    pub http: Vec<HttpRule>,
    pub dns: Dns,
    pub publish: Vec<Publish>,
}

/// All that a container may touch. The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grants {
    pub dirs: Vec<DirGrant>,
    pub scratch: Vec<Scratch>,
    pub root: Root,
    pub net: NetGrants,
}

/// Why a text is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("`{0}` is not a volume: write HOST_DIR:GUEST_DIR[:ro], or HOST_DIR::GUEST_DIR")]
    Volume(String),
    #[error("`{0}` is not an option of a volume: ro and rw are")]
    VolumeOption(String),
    #[error("`{0}` is not a path inside the container: it starts with / and has no ..")]
    GuestPath(String),
    #[error("`{0}` is not scratch space: write GUEST_DIR[:size=64m]")]
    Scratch(String),
    #[error("the size of the scratch space is not valid")]
    ScratchSize(#[source] UnitError),
    #[error(
        "`{0}` is not a mount: write type=bind,source=DIR,target=DIR[,readonly] or type=tmpfs,target=DIR[,tmpfs-size=N]"
    )]
    Mount(String),
    #[error("`{0}` is not a network: `none` (what the rules allow) and `host` are")]
    Network(String),
}

/// What `--mount` can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    Dir(DirGrant),
    Scratch(Scratch),
}

impl FromStr for GuestPath {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<GuestPath, GrantError> {
        let bad = || GrantError::GuestPath(text.into());
        let rest = text.strip_prefix('/').ok_or_else(bad)?;
        let parts: Vec<&str> = rest.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") || text.contains('\0') {
            return Err(bad());
        }
        Ok(GuestPath(format!("/{}", parts.join("/"))))
    }
}

impl FromStr for DirGrant {
    type Err = GrantError;

    /// Parses docker's `HOST:GUEST[:OPTIONS]` and wasmtime's `HOST[::GUEST]`. Of the options `ro`
    /// and `rw` say something; `z` and `Z` relabel for SELinux, which a guest in this process is not
    /// subject to.
    fn from_str(text: &str) -> Result<DirGrant, GrantError> {
        let bad = || GrantError::Volume(text.into());
        if let Some((host, guest)) = text.split_once("::") {
            return dir(host, guest, Access::ReadWrite).ok_or_else(bad);
        }
        let (paths, options) = match text.rsplit_once(':') {
            Some((paths, options)) if paths.contains(':') && !options.starts_with('/') => {
                (paths, options)
            }
            _ => (text, "rw"),
        };
        let mut access = Access::ReadWrite;
        for option in options.split(',') {
            match option {
                "ro" => access = Access::ReadOnly,
                "rw" | "z" | "Z" => {}
                other => return Err(GrantError::VolumeOption(other.into())),
            }
        }
        let (host, guest) = paths.rsplit_once(':').ok_or_else(bad)?;
        dir(host, guest, access).ok_or_else(bad)
    }
}

/// A relative guest path is taken from the root, as wasmtime users expect of `--dir .::data`.
fn dir(host: &str, guest: &str, access: Access) -> Option<DirGrant> {
    if host.is_empty() || guest.is_empty() || host.contains('\0') {
        return None;
    }
    let absolute = if guest.starts_with('/') { guest.to_owned() } else { format!("/{guest}") };
    Some(DirGrant { host: PathBuf::from(host), guest: absolute.parse().ok()?, access })
}

impl FromStr for Scratch {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Scratch, GrantError> {
        let (guest, options) = text.split_once(':').unwrap_or((text, ""));
        let mut size = Scratch::DEFAULT_SIZE;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => size = value.parse().map_err(GrantError::ScratchSize)?,
                // True of all that a guest sees.
                None if matches!(option, "rw" | "noexec" | "nosuid" | "nodev") => {}
                _ => return Err(GrantError::Scratch(text.into())),
            }
        }
        Ok(Scratch { guest: guest.parse()?, size })
    }
}

impl FromStr for Mount {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Mount, GrantError> {
        let bad = || GrantError::Mount(text.into());
        let (mut kind, mut source, mut target) = ("bind", None, None);
        let (mut access, mut size) = (Access::ReadWrite, Scratch::DEFAULT_SIZE);
        for option in text.split(',') {
            match option.split_once('=').unwrap_or((option, "true")) {
                ("type", value) => kind = value,
                ("source" | "src", value) => source = Some(value),
                ("target" | "dst" | "destination", value) => target = Some(value),
                ("readonly" | "ro", "true") => access = Access::ReadOnly,
                ("readonly" | "ro", "false") => access = Access::ReadWrite,
                ("tmpfs-size", value) => size = value.parse().map_err(GrantError::ScratchSize)?,
                _ => return Err(bad()),
            }
        }
        let guest = target.ok_or_else(bad)?;
        match (kind, source) {
            ("bind", Some(host)) => dir(host, guest, access).map(Mount::Dir).ok_or_else(bad),
            ("tmpfs", None) => Ok(Mount::Scratch(Scratch { guest: guest.parse()?, size })),
            _ => Err(bad()),
        }
    }
}

impl FromStr for Network {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Network, GrantError> {
        match text {
            "none" | "rules" => Ok(Network::Rules),
            "host" => Ok(Network::Host),
            other => Err(GrantError::Network(other.into())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Rules => "none",
            Network::Host => "host",
        })
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DirGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.display(), self.guest)?;
        match self.access {
            Access::ReadOnly => f.write_str(":ro"),
            Access::ReadWrite => Ok(()),
        }
    }
}

impl fmt::Display for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:size={}", self.guest, self.size)
    }
}

impl AsRef<Path> for GuestPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

serde_as_text!(GuestPath);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(text: &str) -> DirGrant {
        text.parse().unwrap()
    }

    #[test]
    fn volumes_are_read_as_docker_and_wasmtime_write_them() {
        let data = volume("/srv/data:/data:ro");
        assert_eq!((data.guest.as_str(), data.access), ("/data", Access::ReadOnly));
        assert_eq!(volume("./x::y"), volume("./x:/y"));
        assert_eq!(volume("/a:b:/c").host, Path::new("/a:b"), "a colon in a host path is kept");
        for bad in ["", "/a", "/a:", ":/a", "/a:/../b", "/a:/b/..", "::"] {
            assert!(bad.parse::<DirGrant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_are_the_same_grants_in_other_words() {
        let read = |text: &str| text.parse::<Mount>();
        assert_eq!(
            read("type=bind,source=/a,target=/b,readonly"),
            Ok(Mount::Dir(volume("/a:/b:ro")))
        );
        assert_eq!(
            read("type=tmpfs,target=/tmp,tmpfs-size=1m"),
            Ok(Mount::Scratch("/tmp:size=1m".parse().unwrap()))
        );
        for bad in [
            "",
            "type=volume,source=x,target=/y",
            "type=tmpfs,source=/x,target=/y",
            "source=/x",
            "bogus=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn grants_print_as_they_parse(
            host in "/[a-z]{1,5}(/[a-z.]{1,5}){0,2}", guest in "(/[a-z]{1,5}){1,3}",
            read_only in any::<bool>(), size in any::<u64>(),
        ) {
            let suffix = if read_only { ":ro" } else { "" };
            let grant = volume(&format!("{host}:{guest}{suffix}"));
            prop_assert_eq!(volume(&grant.to_string()), grant);
            let scratch: Scratch = format!("{guest}:size={size}").parse().unwrap();
            prop_assert_eq!(scratch.to_string().parse::<Scratch>().unwrap(), scratch);
        }
    }
}
