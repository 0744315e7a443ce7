//! A seccomp profile as the OCI runtime specification has it (`config-linux.md`, Seccomp), turned into
//! filters for the kernel.
//!
//! The kernel takes the strictest answer of all filters: so one filter has the default for what no rule
//! names, and one more each of the other actions.

use std::collections::BTreeMap;
use std::str::FromStr;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use crate::error::EngineError;

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompProfile {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_KILL_THREAD", alias = "SCMP_ACT_KILL")]
    KillThread,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    names: Vec<String>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// The error that a refused call has where none is named: EPERM.
const EPERM: u32 = 1;

impl Action {
    /// Whether a call does not happen.
    fn refuses(self) -> bool {
        !matches!(self, Action::Allow | Action::Log | Action::Trace)
    }

    fn with(self, value: Option<u32>) -> SeccompAction {
        match self {
            // A guest's process has threads that would live on without it.
            Action::KillProcess | Action::KillThread => SeccompAction::KillProcess,
            Action::Trap => SeccompAction::Trap,
            Action::Errno => SeccompAction::Errno(value.unwrap_or(EPERM)),
            Action::Trace => SeccompAction::Trace(value.unwrap_or_default()),
            Action::Log => SeccompAction::Log,
            Action::Allow => SeccompAction::Allow,
        }
    }
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, seccompiler::BackendError> {
        let (op, value) = match self.op {
            Operator::Ne => (SeccompCmpOp::Ne, self.value),
            Operator::Lt => (SeccompCmpOp::Lt, self.value),
            Operator::Le => (SeccompCmpOp::Le, self.value),
            Operator::Eq => (SeccompCmpOp::Eq, self.value),
            Operator::Ge => (SeccompCmpOp::Ge, self.value),
            Operator::Gt => (SeccompCmpOp::Gt, self.value),
            Operator::MaskedEq => (SeccompCmpOp::MaskedEq(self.value), self.value_two),
        };
        SeccompCondition::new(self.index, SeccompCmpArgLen::Qword, op, value)
    }
}

/// What a process may do with the sockets that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sockets {
    None,
    Internet,
}

/// Rules by the number of the call that they are for; none means always.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Whether filters can be made for this processor.
pub(crate) fn is_supported() -> bool {
    TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

impl SeccompProfile {
    /// What a process that runs guests is without: to start programs, to look into other processes, and to
    /// change the machine.
    pub(crate) fn of_host() -> SeccompProfile {
        serde_json::from_str(include_str!("host.json")).expect("mote's own profile is one")
    }

    /// What the process of one guest is left: to work on what it has open, below the directories that it was
    /// granted. It gets no new code and no new process, and uses sockets only where a network is granted.
    pub(crate) fn of_guest(sockets: Sockets) -> SeccompProfile {
        let own = include_str!("guest.json");
        let mut profile: SeccompProfile =
            serde_json::from_str(own).expect("mote's own profile is one");
        let mut allow = |names: &[&str], args: Vec<Argument>| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let action = Action::Allow;
            profile.syscalls.push(Syscalls { names, action, errno_ret: None, args });
        };
        let equal = |index, value| Argument { index, value, value_two: 0, op: Operator::Eq };
        // Not those that connect as they send, which Landlock may not see.
        let connected =
            |index| Argument { op: Operator::MaskedEq, ..equal(index, libc::MSG_FASTOPEN as u64) };
        // Signals to itself, as a failed assertion sends one.
        allow(&["tgkill"], vec![equal(0, u64::from(std::process::id()))]);
        // To whom a socket is connected, such as its host.
        allow(&["sendto"], vec![equal(4, 0), connected(3)]);
        // TCP and UDP alone: Landlock knows the ports of no other protocol. One that may not be used is made as
        // well, so that the gate hears, and says, where it was to lead.
        for family in [libc::AF_INET, libc::AF_INET6] {
            for protocol in [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
                allow(&["socket"], vec![equal(0, family as u64), equal(2, protocol as u64)]);
            }
        }
        if sockets == Sockets::Internet {
            allow(&["connect", "listen", "accept", "accept4"], Vec::new());
            allow(&["sendto", "sendmmsg"], vec![connected(3)]);
            allow(&["sendmsg"], vec![connected(2)]);
        }
        profile
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// Fails if it is no profile, or one that cannot be honoured here.
    pub fn from_json(json: &[u8]) -> Result<SeccompProfile, EngineError> {
        let bad = |error: &dyn std::fmt::Display| EngineError::Seccomp { why: error.to_string() };
        let profile: SeccompProfile = serde_json::from_slice(json).map_err(|error| bad(&error))?;
        profile.filters()?;
        Ok(profile)
    }

    /// The filters, in the order in which they are to be installed.
    pub(crate) fn filters(&self) -> Result<Vec<BpfProgram>, EngineError> {
        let bad =
            |error: seccompiler::BackendError| EngineError::Seccomp { why: error.to_string() };
        let here = TargetArch::try_from(std::env::consts::ARCH).map_err(bad)?;
        let default = self.default_action.with(self.default_errno_ret);
        let mut named = Rules::new();
        let mut others: Vec<(SeccompAction, Rules)> = Vec::new();
        for entry in &self.syscalls {
            let action = entry.action.with(entry.errno_ret);
            if action == default {
                continue;
            }
            for name in &entry.names {
                let number = match Sysno::from_str(name) {
                    Ok(number) => i64::from(number.id()),
                    // What only others allow is not allowed here; what is to be refused must be known.
                    Err(_) if action == SeccompAction::Allow => continue,
                    Err(_) if self.default_action.refuses() || is_elsewhere(name) => continue,
                    Err(_) => {
                        let why = format!("`{name}` is no system call that is known here");
                        return Err(EngineError::Seccomp { why });
                    }
                };
                add(&mut named, number, &entry.args).map_err(bad)?;
                if action == SeccompAction::Allow {
                    continue;
                }
                let place = others.iter().position(|(other, _)| *other == action);
                let place = place.unwrap_or_else(|| {
                    others.push((action.clone(), Rules::new()));
                    others.len() - 1
                });
                add(&mut others[place].1, number, &entry.args).map_err(bad)?;
            }
        }
        let filter = |rules, (other, matched): (SeccompAction, SeccompAction)| {
            BpfProgram::try_from(SeccompFilter::new(rules, other, matched, here)?)
        };
        let mut filters = other_calls();
        // Those that forbid to install any more come after those that do not.
        let forbids = |rules: &Rules| {
            let needed = [Sysno::prctl, Sysno::seccomp];
            needed.iter().any(|call| rules.contains_key(&i64::from(call.id())))
        };
        others.sort_by_key(|(_, rules)| forbids(rules));
        for (action, rules) in others {
            filters.push(filter(rules, (SeccompAction::Allow, action)).map_err(bad)?);
        }
        // The last, since it may forbid to install any more.
        if default != SeccompAction::Allow {
            filters.push(filter(named, (default, SeccompAction::Allow)).map_err(bad)?);
        }
        Ok(filters)
    }
}

/// Whether a call is one of other processors only, for which a profile is as well: it never happens here.
fn is_elsewhere(name: &str) -> bool {
    syscalls::x86::Sysno::from_str(name).is_ok()
        || syscalls::arm::Sysno::from_str(name).is_ok()
        || syscalls::s390x::Sysno::from_str(name).is_ok()
}

/// A filter for calls under other numbers than a profile's rules are for: on x86-64 the kernel may know
/// them once more as those of x32, which nothing here makes.
fn other_calls() -> Vec<BpfProgram> {
    /// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JGE | BPF_K`, `BPF_RET | BPF_K` (linux/filter.h).
    const LOAD: u16 = 0x20;
    const JUMP_IF_GREATER_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const ENOSYS: u32 = 0x0005_0000 | 38;
    if std::env::consts::ARCH != "x86_64" {
        return Vec::new();
    }
    let step = |code, (jt, jf), k| seccompiler::sock_filter { code, jt, jf, k };
    vec![vec![
        step(LOAD, (0, 0), 0),
        step(JUMP_IF_GREATER_EQUAL, (0, 1), X32),
        step(RETURN, (0, 0), ENOSYS),
        step(RETURN, (0, 0), ALLOW),
    ]]
}

/// Adds what an entry says of a call. One without conditions is for every call.
fn add(rules: &mut Rules, number: i64, args: &[Argument]) -> Result<(), seccompiler::BackendError> {
    let conditions = args.iter().map(Argument::condition).collect::<Result<Vec<_>, _>>()?;
    // Several of one argument are alternatives, as libseccomp and `runc` read them.
    let mut indexes: Vec<u8> = args.iter().map(|arg| arg.index).collect();
    indexes.sort_unstable();
    let alternatives = indexes.windows(2).any(|two| two[0] == two[1]);
    let is_free = rules.get(&number).is_some_and(Vec::is_empty);
    let rules = rules.entry(number).or_default();
    if conditions.is_empty() || is_free {
        rules.clear();
        return Ok(());
    }
    if alternatives {
        for condition in conditions {
            rules.push(SeccompRule::new(vec![condition])?);
        }
    } else {
        rules.push(SeccompRule::new(conditions)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs something in a thread that has a profile, and returns what it said.
    fn under<T: Send + 'static>(json: &str, work: fn() -> T) -> T {
        let filters = SeccompProfile::from_json(json.as_bytes()).unwrap().filters().unwrap();
        let thread = std::thread::spawn(move || {
            for filter in &filters {
                seccompiler::apply_filter(filter).unwrap();
            }
            work()
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_profile_that_refuses_some_calls_leaves_the_others() {
        let refuse = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["getcwd","chown32"],"action":"SCMP_ACT_ERRNO"},
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,
             "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
        let said = under(refuse, || {
            let socket =
                |family| rustix::net::socket(family, rustix::net::SocketType::STREAM, None).err();
            let cwd = std::env::current_dir().err().and_then(|error| error.raw_os_error());
            let (unix, inet) = (rustix::net::AddressFamily::UNIX, rustix::net::AddressFamily::INET);
            (cwd, socket(unix), socket(inet))
        });
        assert_eq!(said, (Some(1), Some(rustix::io::Errno::AFNOSUPPORT), None));
    }

    #[test]
    fn a_profile_that_allows_some_calls_refuses_the_others() {
        // What a thread needs to say something, and to end.
        let allow = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"syscalls":[
            {"names":["no_such_call","futex","munmap","mmap","madvise","exit","exit_group","write","sigaltstack",
              "rt_sigprocmask","mprotect","sched_yield","rseq","set_robust_list","gettid","close"],"action":"SCMP_ACT_ALLOW"},
            {"names":["getcwd"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
        let said = under(allow, || {
            let cwd = std::env::current_dir().err().and_then(|error| error.raw_os_error());
            let open = std::fs::File::open("/").err().and_then(|error| error.raw_os_error());
            (cwd, open)
        });
        assert_eq!(said, (Some(38), Some(1)));
    }

    /// As root, whom the kernel itself would refuse few of them. Nothing happens if a filter lacks one: its
    /// arguments are good for nothing.
    #[test]
    fn every_call_that_a_host_gives_up_is_refused() {
        let host = SeccompProfile::of_host();
        let filters = host.filters().unwrap();
        // Without arguments these would do something.
        let acts = ["fork", "vfork", "vhangup", "acct", "unshare", "personality"];
        let names: Vec<String> = host
            .syscalls
            .iter()
            .filter(|entry| entry.args.is_empty() && entry.errno_ret.is_none())
            .flat_map(|entry| entry.names.clone())
            .filter(|name| !acts.contains(&name.as_str()))
            .collect();
        assert!(names.len() > 60);
        let thread = std::thread::spawn(move || {
            for filter in &filters {
                seccompiler::apply_filter(filter).unwrap();
            }
            let allowed = |name: &String| {
                let Ok(call) = Sysno::from_str(name) else { return false };
                // SAFETY: no argument of these points to anything.
                let done = unsafe { libc::syscall(i64::from(call.id()), -1, -1, -1, -1, -1, -1) };
                let error = std::io::Error::last_os_error().raw_os_error();
                done != -1 || error != Some(libc::EPERM)
            };
            names.into_iter().filter(allowed).collect::<Vec<_>>()
        });
        assert_eq!(thread.join().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn motes_own_profiles_are_filters() {
        assert!(SeccompProfile::of_host().filters().is_ok());
        for sockets in [Sockets::None, Sockets::Internet] {
            assert!(SeccompProfile::of_guest(sockets).filters().is_ok());
        }
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for bad in ["", "{}", r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#] {
            assert!(SeccompProfile::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
        let unknown = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["no_such_call"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert!(SeccompProfile::from_json(unknown.as_bytes()).is_err(), "it would not be held");
        let bad = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
            "action":"SCMP_ACT_ERRNO","args":[{"index":9,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#;
        assert!(SeccompProfile::from_json(bad.as_bytes()).is_err());
    }
}
