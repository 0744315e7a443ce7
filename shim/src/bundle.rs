//! Reads a container's bundle (OCI runtime specification, `config.json`), and turns it into mote's words:
//! what the guest is started with, what it may reach, and how much it may use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mote_engine::{Layers, SeccompProfile, User, Wall};
use mote_spec::{
    Access, Asks, Bytes, Ceiling, CpuShare, DirGrant, Grants, LimitWants, Policy, Request,
    SecurityWants, decide,
};
use oci_spec::runtime::{
    Capability, Hooks, Linux, LinuxNamespaceType, LinuxResources, Mount, Process, Spec,
};

use crate::error::ShimError;
use crate::metrics::Hierarchy;
use crate::pod_cgroup::PodCgroup;

/// The annotations that name the pod that a container belongs to (containerd's).
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// A bundle that was read.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    /// What a process of the container gives up.
    pub(crate) wall: Wall,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) root: PathBuf,
    pub(crate) root_access: Access,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Network,
    /// Whether its users are to be others outside than inside.
    maps_users: bool,
    /// Whether programs are to be run at its start or end.
    has_hooks: bool,
    /// Whether it is to have an SELinux label.
    has_label: bool,
    pub(crate) cgroups: Cgroups,
    cgroups_path: Option<String>,
    group: Option<String>,
    annotations: BTreeMap<String, String>,
    limits: LimitWants,
}

/// Who makes a container's cgroups, which the form of their path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cgroups {
    Runtime,
    /// `SLICE:PREFIX:NAME`
    Systemd,
}

/// The network namespace that a container is to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    Host,
    Fresh,
    Join(PathBuf),
}

fn load(bundle: &Path) -> Result<Spec, ShimError> {
    let path = bundle.join("config.json");
    Spec::load(&path).map_err(|source| ShimError::Spec { path, source })
}

/// The pod that a bundle's container belongs to: a shim serves all of a pod.
pub(crate) fn group(bundle: &Path) -> Result<Option<String>, ShimError> {
    Ok(group_of(&load(bundle)?))
}

fn group_of(spec: &Spec) -> Option<String> {
    let annotations = spec.annotations().iter().flatten();
    let annotations: BTreeMap<&String, &String> = annotations.collect();
    let named = |name: &&str| annotations.get(&(*name).to_owned()).map(|group| (*group).clone());
    GROUPS.iter().find_map(named)
}

impl Bundle {
    /// # Errors
    /// Fails if there is no specification, or if it asks for what a guest cannot have.
    pub(crate) fn read(path: &Path) -> Result<Bundle, ShimError> {
        let spec = load(path)?;
        let process = spec.process().as_ref();
        let process =
            process.ok_or_else(|| ShimError::Invalid("the bundle names no process".to_owned()))?;
        let root = spec.root().as_ref();
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
        let mut namespaces = namespaces.into_iter().flatten();
        let maps_users = namespaces.clone().any(|one| one.typ() == LinuxNamespaceType::User);
        let network = namespaces.find(|one| one.typ() == LinuxNamespaceType::Network);
        let network = match network.map(|one| one.path()) {
            None => Network::Host,
            Some(None) => Network::Fresh,
            Some(Some(path)) => Network::Join(path.clone()),
        };
        let limits = match linux.and_then(|linux| linux.resources().as_ref()) {
            Some(resources) => limits(resources)?,
            None => LimitWants::default(),
        };
        let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_ref());
        let cgroups_path = cgroups_path.and_then(|path| path.to_str()).map(str::to_owned);
        let read_only = root.and_then(|root| root.readonly()) == Some(true);
        Ok(Bundle {
            path: path.to_owned(),
            wall: wall(process, seccomp(linux)?),
            args: process.args().clone().unwrap_or_default(),
            env: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().display().to_string(),
            root: path.join(root.map_or(Path::new("rootfs"), |root| root.path())),
            root_access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
            mounts: spec.mounts().clone().unwrap_or_default(),
            network,
            maps_users,
            has_label: process.selinux_label().as_ref().is_some_and(|label| !label.is_empty()),
            has_hooks: spec.hooks().as_ref().is_some_and(|hooks| *hooks != Hooks::default()),
            cgroups: match cgroups_path.as_ref().is_some_and(|path| path.contains(".slice:")) {
                true => Cgroups::Systemd,
                false => Cgroups::Runtime,
            },
            cgroups_path,
            group: group_of(&spec),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            limits,
        })
    }

    /// Decides what the container may do. `dirs` are the directories that it was mounted. The
    /// annotations are those of whoever made the pod: they grant what they ask for.
    pub(crate) fn policy(
        &self,
        dirs: Vec<DirGrant>,
        ceiling: &Ceiling,
    ) -> Result<Policy, ShimError> {
        if self.maps_users {
            return Err(ShimError::Invalid("a Wasm container cannot be in a user namespace yet: leave `hostUsers: false` and --uidmap out, or name a user that has no rights on the machine".to_owned()));
        }
        if self.has_hooks {
            return Err(ShimError::Invalid(
                "hooks of the specification are not run for a Wasm container".to_owned(),
            ));
        }
        if self.has_label {
            return Err(ShimError::Invalid("mote sets no SELinux labels: leave `enable_selinux` out of containerd's configuration, or give the pod no label".to_owned()));
        }
        let mut own = self.annotations.clone();
        own.retain(|key, _| key.starts_with(mote_spec::ANNOTATION_PREFIX));
        let said = Asks::from_annotations(&own)?;
        let limits = self.limits.or(said.limits);
        let grants = Grants { dirs, net: said.net, ..Grants::default() };
        let security = SecurityWants { isolation: said.isolation, ..SecurityWants::default() };
        Ok(decide(Request { limits, grants, security }, &Asks::default(), ceiling)?)
    }

    /// Whether it is the first container of a pod, which only holds the others together.
    pub(crate) fn is_sandbox(&self) -> bool {
        self.annotations.get("io.kubernetes.cri.container-type").is_some_and(|it| it == "sandbox")
    }

    /// The cgroup of the pod's process, where the specification places containers in any.
    pub(crate) fn pod_cgroup(&self, hierarchy: Hierarchy, id: &str) -> Option<PodCgroup> {
        let path = self.cgroups_path.as_deref()?;
        let group = self.group.as_deref().unwrap_or(id);
        Some(PodCgroup::beside(hierarchy, path, group))
    }

    /// The environment in pairs.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        pairs(&self.env)
    }
}

/// What a process gives up that runs as a specification says.
pub(crate) fn wall(process: &Process, seccomp: Option<SeccompProfile>) -> Wall {
    let user = process.user();
    let capabilities = process.capabilities().as_ref().and_then(|sets| match user.uid() {
        0 => sets.bounding().as_ref(),
        // All that another user's process has after its start (capabilities(7)).
        _ => sets.ambient().as_ref(),
    });
    let capabilities = match (process.capabilities(), capabilities) {
        (None, _) if user.uid() == 0 => None,
        (_, kept) => Some(kept.into_iter().flatten().filter_map(name_of).collect()),
    };
    Wall {
        user: Some(User {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
        }),
        capabilities,
        seccomp,
        oom_score: process.oom_score_adj(),
        apparmor: process.apparmor_profile().clone().filter(|profile| !is_unconfined(profile)),
        layers: Layers::Available,
    }
}

/// Whether an AppArmor profile's name stands for none (OCI runtime specification, `apparmorProfile`).
fn is_unconfined(profile: &str) -> bool {
    matches!(profile, "" | "unconfined")
}

/// The AppArmor profile that containerd gives to every container, where the kernel has AppArmor: nobody has
/// asked for it, and a process of its own has it as well.
const USUAL_APPARMOR: &str = "cri-containerd.apparmor.d";

/// A capability's name in a specification, such as `CAP_CHOWN`.
fn name_of(capability: &Capability) -> Option<String> {
    serde_json::to_value(capability).ok()?.as_str().map(str::to_owned)
}

/// What root may do to files and ports, and so a guest in the shim's process: one without it is elsewhere.
const OF_ROOT: [&str; 5] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_NET_BIND_SERVICE"];

/// Whether only a process of its own can be behind a wall: guests of the shim's process are root's, and
/// under no filter.
pub(crate) fn needs_process(wall: &Wall) -> bool {
    let lacks = |kept: &Vec<String>| !OF_ROOT.iter().all(|one| kept.iter().any(|has| has == one));
    wall.seccomp.is_some()
        || wall.apparmor.as_ref().is_some_and(|profile| profile != USUAL_APPARMOR)
        || wall.user.as_ref().is_some_and(|user| (user.uid, user.gid) != (0, 0))
        || wall.capabilities.as_ref().is_some_and(lacks)
}

fn seccomp(linux: Option<&Linux>) -> Result<Option<SeccompProfile>, ShimError> {
    let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
    let json = serde_json::to_vec(profile)
        .map_err(|source| ShimError::Json { what: "the seccomp profile", source })?;
    Ok(Some(SeccompProfile::from_json(&json)?))
}

pub(crate) fn pairs(env: &[String]) -> Vec<(String, String)> {
    let pairs = env.iter().filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The limits that Linux resources say.
pub(crate) fn limits(resources: &LinuxResources) -> Result<LimitWants, ShimError> {
    let memory = resources.memory().as_ref().and_then(|memory| memory.limit());
    let memory = memory.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let cpu = resources.cpu().as_ref();
    let quota = cpu.and_then(|cpu| cpu.quota()).and_then(|quota| u64::try_from(quota).ok());
    let cpus = match quota.filter(|quota| *quota > 0) {
        Some(quota) => {
            // The period that the kernel takes where none is given, in microseconds.
            let period = cpu.and_then(|cpu| cpu.period()).filter(|period| *period > 0);
            let share = quota as f64 / period.unwrap_or(100_000) as f64;
            let bad = |error: mote_spec::UnitError| ShimError::Invalid(error.to_string());
            Some(format!("{share:.3}").parse::<CpuShare>().map_err(bad)?)
        }
        None => None,
    };
    Ok(LimitWants { memory: memory.map(Bytes::new), cpus, ..LimitWants::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(json: &str) -> (tempfile::TempDir, Result<Bundle, ShimError>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json).unwrap();
        let read = Bundle::read(folder.path());
        (folder, read)
    }

    fn ceiling() -> Ceiling {
        Ceiling::of_machine(Bytes::mib(1024))
    }

    #[test]
    fn a_bundle_says_what_the_guest_gets() {
        let (folder, read) = bundle(
            r#"{"ociVersion":"1.1.0","process":{"user":{"uid":0,"gid":0},"args":["app.wasm","x"],"env":["A=b"],"cwd":"/"},
            "root":{"path":"rootfs","readonly":true},
            "annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.mote.fuel":"1000","other":"x"},
            "linux":{"namespaces":[{"type":"network","path":"/proc/1/ns/net"},{"type":"pid"}],
            "resources":{"memory":{"limit":67108864},"cpu":{"quota":25000,"period":100000}}}}"#,
        );
        let read = read.unwrap();
        assert_eq!(group(folder.path()).unwrap().as_deref(), Some("pod"));
        assert_eq!(read.args, ["app.wasm", "x"]);
        assert_eq!(read.network, Network::Join("/proc/1/ns/net".into()));
        assert_eq!(read.root_access, Access::ReadOnly);
        let policy = read.policy(Vec::new(), &ceiling()).unwrap();
        let limits = policy.limits();
        assert_eq!(limits.memory, Bytes::mib(64));
        assert_eq!(limits.cpus.bound().map(|share| share.millis()), Some(250));
        assert_eq!(limits.fuel.bound().map(|fuel| fuel.get()), Some(1000));
    }

    #[test]
    fn what_only_a_process_can_have_is_told() {
        let wall = |user: &str, linux: &str| {
            let json = format!(
                r#"{{"ociVersion":"1.1.0","process":{{"cwd":"/","user":{user},"capabilities":{{
                "bounding":["CAP_CHOWN"],"ambient":["CAP_NET_RAW"]}}}},"linux":{linux}}}"#
            );
            bundle(&json).1.map(|read| read.wall)
        };
        let root = wall(r#"{"uid":0,"gid":0,"additionalGids":[7]}"#, "{}").unwrap();
        assert_eq!(root.capabilities.as_deref(), Some(&["CAP_CHOWN".to_owned()][..]));
        assert!(needs_process(&root), "it is a root of few rights");
        let usual = Some(OF_ROOT.map(str::to_owned).to_vec());
        assert!(!needs_process(&Wall { capabilities: usual, ..root.clone() }));
        assert!(!needs_process(&Wall { capabilities: None, ..root }));
        let other = wall(r#"{"uid":1000,"gid":0,"additionalGids":[7],"umask":18}"#, "{}").unwrap();
        assert!(needs_process(&other));
        assert_eq!(other.capabilities.as_deref(), Some(&["CAP_NET_RAW".to_owned()][..]));
        let user = User { uid: 1000, gid: 0, groups: vec![7], umask: Some(18) };
        assert_eq!(other.user, Some(user));
        let seccomp = r#"{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["ptrace"],"action":"SCMP_ACT_ERRNO"}]}}"#;
        assert!(needs_process(&wall(r#"{"uid":0,"gid":0}"#, seccomp).unwrap()));
        let notify = r#"{"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"}}"#;
        assert!(wall(r#"{"uid":0,"gid":0}"#, notify).is_err());
    }

    #[test]
    fn what_no_guest_can_have_is_refused() {
        let (_folder, read) = bundle(
            r#"{"ociVersion":"1.1.0","process":{"cwd":"/","user":{"uid":0,"gid":0}},"linux":{"namespaces":[{"type":"user"}]}}"#,
        );
        assert!(read.unwrap().policy(Vec::new(), &ceiling()).is_err(), "a user namespace");
        let (_folder, read) = bundle(
            r#"{"ociVersion":"1.1.0","process":{"cwd":"/","user":{"uid":0,"gid":0}},"hooks":{"prestart":[{"path":"/bin/true"}]}}"#,
        );
        assert!(read.unwrap().policy(Vec::new(), &ceiling()).is_err(), "a hook");
        let (_folder, read) = bundle(r#"{"ociVersion":"1.1.0"}"#);
        assert!(read.is_err(), "no process");
        let (_folder, read) = bundle(
            r#"{"ociVersion":"1.1.0","process":{"user":{"uid":0,"gid":0},"cwd":"/"},"annotations":{"io.mote.wrong":"1"}}"#,
        );
        assert!(
            read.unwrap().policy(Vec::new(), &ceiling()).is_err(),
            "a word that mote does not know"
        );
    }
}
