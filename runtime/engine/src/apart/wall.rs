//! What a process gives up before its guest begins: a second wall, behind the sandbox.

use rustix::fs::Mode;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::seccomp::SeccompProfile;
use crate::error::EngineError;

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
    /// Confines this process, which has one thread, for good.
    ///
    /// # Errors
    /// Fails at the first layer that cannot be had. Then the process is not to go on.
    pub(crate) fn raise(&self) -> Result<(), EngineError> {
        let failed = |what| move |source: rustix::io::Errno| wall(what, source.into());
        // System calls that confine are a thread's own.
        let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
        if threads.map_err(|source| wall("count its threads", source))? != 1 {
            return Err(wall("be confined with several threads", std::io::ErrorKind::Other.into()));
        }
        // Before anything is given up that is needed to compile or to do it.
        let filters = self.seccomp.as_ref().map(SeccompProfile::filters).transpose()?;
        let capabilities = self.capabilities.as_deref().map(set_of);
        if let Some(score) = self.oom_score {
            let told = std::fs::write("/proc/self/oom_score_adj", score.to_string());
            told.map_err(|source| wall("set its score for memory", source))?;
        }
        if let Some(user) = &self.user {
            rustix::thread::set_keep_capabilities(true).map_err(failed("keep capabilities"))?;
            user.become_it()?;
        }
        if let Some(kept) = capabilities {
            let had = rustix::thread::capabilities(None).map_err(failed("tell capabilities"))?;
            let kept = kept & had.permitted;
            let inheritable = CapabilitySet::empty();
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
            rustix::thread::set_capabilities(None, sets).map_err(failed("drop capabilities"))?;
        }
        // Another user's process loses it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(failed("end with its parent"))?;
        rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
        for filter in filters.iter().flatten() {
            seccompiler::apply_filter(filter)
                .map_err(|error| wall("install a seccomp filter", std::io::Error::other(error)))?;
        }
        Ok(())
    }
}

impl User {
    fn become_it(&self) -> Result<(), EngineError> {
        let failed = |what| move |source: rustix::io::Errno| wall(what, source.into());
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
        // Tests run in threads.
        assert!(matches!(Wall::default().raise(), Err(EngineError::Wall { .. })));
    }
}
