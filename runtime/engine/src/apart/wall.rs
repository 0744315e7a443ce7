//! What a process gives up before its guest begins: a second wall, behind the sandbox.

use std::path::Path;

use mote_spec::{Isolation, NetGrants, Network, Policy, Security, UserId};
use rustix::fs::Mode;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::CapabilitySet;
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::domain::Domain;
use super::seccomp::{SeccompProfile, Sockets};
use super::{namespaces, seccomp};
use crate::capabilities;
use crate::error::EngineError;
use crate::handles::Handles;
use crate::mechanisms::{Layer, Layers};

/// How a process is confined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// Who it runs as; none is whoever started it.
    pub user: Option<User>,
    /// The capabilities that it keeps, such as `CAP_CHOWN`; none are all it has.
    pub capabilities: Option<Vec<String>>,
    pub seccomp: Option<SeccompProfile>,
    /// How readily the kernel ends it when memory runs out (`oom_score_adj` of proc(5)); none is as it was.
    pub oom_score: Option<i32>,
    /// An AppArmor profile that the kernel has loaded.
    pub apparmor: Option<String>,
    /// Whether a layer may be missing that the machine does not have.
    pub layers: Layers,
}

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The other groups that it is in.
    pub groups: Vec<u32>,
    /// The permissions that its new files do not have.
    pub umask: Option<u32>,
}

impl Wall {
    /// The wall that a policy describes. A guest's process keeps of the capabilities of whoever runs mote
    /// only those that its grants need.
    ///
    /// # Errors
    /// Fails if its seccomp profile cannot be honoured.
    pub fn of(policy: &Policy) -> Result<Wall, EngineError> {
        let Security { isolation, user, dropped, seccomp, apparmor } = policy.security();
        let profile = |text: &String| SeccompProfile::from_json(text.as_bytes());
        let mut kept = needed(policy);
        kept.retain(|name| !dropped.iter().any(|dropped| dropped.full_name() == *name));
        Ok(Wall {
            user: user.map(|UserId { uid, gid }| User { uid, gid, ..User::default() }),
            capabilities: Some(kept.into_iter().map(str::to_owned).collect()),
            seccomp: seccomp.as_ref().map(profile).transpose()?,
            oom_score: None,
            apparmor: apparmor.clone(),
            layers: match isolation {
                Isolation::Strict => Layers::All,
                Isolation::Process | Isolation::Shared => Layers::Available,
            },
        })
    }

    /// Makes all ready that is needed to raise it, while everything can still be had.
    pub(crate) fn prepare(
        &self,
        handles: &Handles,
        net: &NetGrants,
    ) -> Result<Prepared<'_>, EngineError> {
        let sockets = match *net == NetGrants::default() {
            true => Sockets::None,
            false => Sockets::Internet,
        };
        // A profile of the operator's may forbid to install any more.
        let own = seccomp::is_supported().then(|| SeccompProfile::of_guest(sockets));
        let filters = own.iter().chain(&self.seccomp).map(SeccompProfile::filter);
        let filters = filters.collect::<Result<_, _>>()?;
        Ok(Prepared { wall: self, filters, domain: Domain::of(handles, net)? })
    }
}

/// The capabilities that a guest's process needs for its grants: files of other users, and low ports.
fn needed(policy: &Policy) -> Vec<&'static str> {
    let grants = policy.grants();
    let is_root = match policy.security().user {
        Some(user) => user.uid == 0,
        None => rustix::process::geteuid().is_root(),
    };
    let mut needed = Vec::new();
    if is_root && !grants.dirs.is_empty() {
        needed.extend(["CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
    }
    let is_low = |publish: &mote_spec::Publish| publish.host.port() < 1024;
    if grants.net.publish.iter().any(is_low) || grants.net.network == Network::Host {
        needed.push("CAP_NET_BIND_SERVICE");
    }
    needed
}

/// A wall that is ready to be raised.
pub(crate) struct Prepared<'a> {
    wall: &'a Wall,
    filters: Vec<BpfProgram>,
    domain: Domain,
}

impl Prepared<'_> {
    /// Confines this process, which has one thread, for good, and tells what could not be had.
    ///
    /// # Errors
    /// Fails at the first layer that cannot be had and has to be. Then the process is not to go on.
    pub(crate) fn raise(self) -> Result<Vec<Layer>, EngineError> {
        let Prepared {
            wall: Wall { user, capabilities, seccomp, oom_score, apparmor, layers },
            filters,
            domain,
        } = self;
        let failed = |what| move |source: rustix::io::Errno| wall(what, source.into());
        // System calls that confine are a thread's own.
        let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
        if threads.map_err(|source| wall("count its threads", source))? != 1 {
            return Err(wall("be confined with several threads", std::io::ErrorKind::Other.into()));
        }
        if let Some(score) = oom_score {
            let told = std::fs::write("/proc/self/oom_score_adj", score.to_string());
            told.map_err(|source| wall("set its score for memory", source))?;
        }
        if let Some(profile) = apparmor {
            enter_apparmor(profile)?;
        }
        let mut lacks = namespaces::leave_names();
        if !seccomp::is_supported() {
            lacks.push(Layer::Seccomp);
        }
        let kept = capabilities.as_ref().map(|names| set_of(names));
        // While it may: another user may not.
        if let Some(kept) = kept {
            capabilities::bound(kept).map_err(failed("bound its capabilities"))?;
        }
        if let Some(user) = user {
            rustix::thread::set_keep_capabilities(true).map_err(failed("keep capabilities"))?;
            user.become_it()?;
        }
        if let Some(kept) = kept {
            capabilities::keep(kept).map_err(failed("drop capabilities"))?;
        }
        // Another user's process loses it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(failed("end with its parent"))?;
        rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
        lacks.extend(domain.enter()?);
        if *layers == Layers::All && !lacks.is_empty() {
            return Err(EngineError::Lacks { layers: lacks });
        }
        for filter in &filters {
            seccompiler::apply_filter(filter)
                .map_err(|error| wall("install a seccomp filter", std::io::Error::other(error)))?;
        }
        if seccomp.is_some() {
            works()?;
        }
        Ok(lacks)
    }
}

/// Tries what the process of every guest does, which a profile of the operator's may forbid: it would hang, or end
/// without a word.
fn works() -> Result<(), EngineError> {
    use rustix::event::{EventfdFlags, eventfd};
    let wakes = || {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        rustix::io::write(&event, &1u64.to_ne_bytes())
    };
    let starts_threads = || {
        std::thread::Builder::new()
            .spawn(|| {})?
            .join()
            .map_err(|_| std::io::ErrorKind::Other.into())
    };
    let forbids = |calls| EngineError::Seccomp {
        why: format!("it forbids one of {calls}, which the process of every guest calls"),
    };
    wakes().map_err(|_| forbids("eventfd2 and write"))?;
    starts_threads().map_err(|_: std::io::Error| forbids("clone, mmap, mprotect and futex"))?;
    crate::tick::prepare().map_err(|_| forbids("timer_create and timer_settime"))
}

/// Changes to an AppArmor profile (`aa_change_profile`(2)), which the kernel has to have loaded.
fn enter_apparmor(profile: &str) -> Result<(), EngineError> {
    let files = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"];
    let has = Path::new("/sys/module/apparmor/parameters/enabled");
    if !std::fs::read_to_string(has).is_ok_and(|enabled| enabled.starts_with('Y')) {
        return Err(EngineError::AppArmor { profile: profile.to_owned() });
    }
    let file = files.into_iter().find(|file| Path::new(file).exists()).unwrap_or(files[0]);
    std::fs::write(file, format!("changeprofile {profile}"))
        .map_err(|source| wall("enter its AppArmor profile", source))
}

impl User {
    fn become_it(&self) -> Result<(), EngineError> {
        let failed = |what| {
            move |source: rustix::io::Errno| match source {
                rustix::io::Errno::PERM => {
                    wall("be another user's, which takes root", source.into())
                }
                _ => wall(what, source.into()),
            }
        };
        let is = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        if is == (self.uid, self.gid) && self.uid != 0 && self.groups.is_empty() {
            // It is who it is to be; to leave groups takes root.
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        rustix::thread::set_thread_groups(&groups).map_err(failed("set its groups"))?;
        let gid = Gid::from_raw(self.gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("set its group"))?;
        if let Some(umask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(umask));
        }
        let uid = Uid::from_raw(self.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("set its user"))
    }
}

fn wall(what: &'static str, source: std::io::Error) -> EngineError {
    EngineError::Wall { what, source }
}

/// The set of capabilities with these names (capabilities(7)). One that is not known here is not kept.
fn set_of(names: &[String]) -> CapabilitySet {
    let known = |name: &String| name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
    names.iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_their_names() {
        let names = ["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_FLY", "fowner"];
        let both = CapabilitySet::CHOWN | CapabilitySet::NET_BIND_SERVICE;
        assert_eq!(set_of(&names.map(str::to_owned)), both);
    }

    #[test]
    fn a_process_of_several_threads_is_not_confined() {
        let (wall, net) = (Wall::default(), NetGrants::default());
        let handles = crate::handles::open(&Default::default(), None, None, None).unwrap();
        // Tests run in threads.
        let raised = wall.prepare(&handles, &net).unwrap().raise();
        assert!(matches!(raised, Err(EngineError::Wall { .. })));
    }
}
