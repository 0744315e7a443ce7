//! A seccomp profile as the OCI runtime specification has it (`config-linux.md`, Seccomp), turned into
//! a filter for the kernel.

use std::collections::BTreeMap;
use std::str::FromStr;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule,
    TargetArch,
};
use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use super::filter::{self, Verdict};
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
        profile.filter()?;
        Ok(profile)
    }

    /// The filter for the kernel.
    pub(crate) fn filter(&self) -> Result<BpfProgram, EngineError> {
        let bad =
            |error: seccompiler::BackendError| EngineError::Seccomp { why: error.to_string() };
        let here = TargetArch::try_from(std::env::consts::ARCH).map_err(bad)?;
        let default = self.default_action.with(self.default_errno_ret);
        let verdicts = self.verdicts(&default)?.into_iter();
        let verdicts = verdicts.map(|(number, said)| (number, verdict(said, &default))).collect();
        filter::write(verdicts, &default, here).map_err(bad)
    }

    /// What is said of each call, in the order of the profile.
    fn verdicts(&self, default: &SeccompAction) -> Result<BTreeMap<u32, Vec<Said>>, EngineError> {
        let bad =
            |error: seccompiler::BackendError| EngineError::Seccomp { why: error.to_string() };
        let mut verdicts: BTreeMap<u32, Vec<Said>> = BTreeMap::new();
        for entry in &self.syscalls {
            let action = entry.action.with(entry.errno_ret);
            if action == *default {
                continue;
            }
            let rules = rules(&entry.args).map_err(bad)?;
            for name in &entry.names {
                let number = match Sysno::from_str(name) {
                    Ok(number) => number.id() as u32,
                    // What only others allow is not allowed here; what is to be refused must be known.
                    Err(_) if action == SeccompAction::Allow => continue,
                    Err(_) if self.default_action.refuses() || is_elsewhere(name) => continue,
                    Err(_) => {
                        let why = format!("`{name}` is no system call that is known here");
                        return Err(EngineError::Seccomp { why });
                    }
                };
                let said = (entry.action, action.clone(), rules.clone());
                verdicts.entry(number).or_default().push(said);
            }
        }
        Ok(verdicts)
    }
}

/// What one entry says of a call: an action, and when it is meant; always, if there are no rules.
type Said = (Action, SeccompAction, Vec<SeccompRule>);

/// Of all that is meant the strictest is done, and of equal ones the last, as the kernel does with several filters.
fn verdict(mut said: Vec<Said>, default: &SeccompAction) -> Verdict {
    said.reverse();
    said.sort_by_key(|(action, _, _)| *action);
    let mut verdict = Verdict { rules: Vec::new(), otherwise: default.clone() };
    for (_, action, rules) in said {
        if rules.is_empty() {
            verdict.otherwise = action;
            break;
        }
        verdict.rules.extend(rules.into_iter().map(|rule| (rule, action.clone())));
    }
    verdict
}

/// Whether a call is one of other processors only, for which a profile is as well: it never happens here.
fn is_elsewhere(name: &str) -> bool {
    syscalls::x86::Sysno::from_str(name).is_ok()
        || syscalls::arm::Sysno::from_str(name).is_ok()
        || syscalls::s390x::Sysno::from_str(name).is_ok()
}

/// When what an entry says is meant.
fn rules(args: &[Argument]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let conditions = args.iter().map(Argument::condition).collect::<Result<Vec<_>, _>>()?;
    // Several of one argument are alternatives, as libseccomp and `runc` read them.
    let mut indexes: Vec<u8> = args.iter().map(|arg| arg.index).collect();
    indexes.sort_unstable();
    let alternatives = indexes.windows(2).any(|two| two[0] == two[1]);
    match (conditions.is_empty(), alternatives) {
        (true, _) => Ok(Vec::new()),
        (false, true) => {
            conditions.into_iter().map(|condition| SeccompRule::new(vec![condition])).collect()
        }
        (false, false) => Ok(vec![SeccompRule::new(conditions)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs something in a thread that has a profile, and returns what it said.
    fn under<T: Send + 'static>(json: &str, work: fn() -> T) -> T {
        let filter = SeccompProfile::from_json(json.as_bytes()).unwrap().filter().unwrap();
        let thread = std::thread::spawn(move || {
            seccompiler::apply_filter(&filter).unwrap();
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
        let filter = host.filter().unwrap();
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
            seccompiler::apply_filter(&filter).unwrap();
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
        assert!(SeccompProfile::of_host().filter().is_ok());
        for sockets in [Sockets::None, Sockets::Internet] {
            assert!(SeccompProfile::of_guest(sockets).filter().is_ok());
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

    /// What a profile says of a call, read entry by entry.
    fn judge(profile: &SeccompProfile, (number, arguments): filter::tests::Call) -> u32 {
        let holds = |argument: &Argument| {
            let (is, value) = (arguments[usize::from(argument.index)], argument.value);
            match argument.op {
                Operator::Ne => is != value,
                Operator::Lt => is < value,
                Operator::Le => is <= value,
                Operator::Eq => is == value,
                Operator::Ge => is >= value,
                Operator::Gt => is > value,
                Operator::MaskedEq => is & value == argument.value_two & value,
            }
        };
        let is_meant = |entry: &&Syscalls| {
            let named = entry
                .names
                .iter()
                .any(|name| Sysno::from_str(name).is_ok_and(|known| known.id() as u32 == number));
            let twice = entry.args.iter().enumerate().any(|(place, one)| {
                entry.args[..place].iter().any(|other| other.index == one.index)
            });
            named
                && match twice {
                    true => entry.args.iter().any(holds),
                    false => entry.args.iter().all(holds),
                }
        };
        let default = profile.default_action.with(profile.default_errno_ret);
        let said = profile.syscalls.iter().filter(is_meant);
        let said = said.map(|entry| (entry.action, entry.action.with(entry.errno_ret)));
        let said = said.filter(|(_, action)| *action != default);
        let strictest = said.rev().min_by_key(|(action, _)| *action);
        strictest.map_or(default, |(_, action)| action).into()
    }

    fn an_argument() -> impl Strategy<Value = Argument> {
        use Operator::*;
        let value = prop_oneof![0u64..4, Just(u64::MAX), Just(1 << 32), Just((1 << 32) + 2)];
        let op =
            prop_oneof![Just(Ne), Just(Lt), Just(Le), Just(Eq), Just(Ge), Just(Gt), Just(MaskedEq)];
        (0u8..3, value.clone(), value, op).prop_map(|(index, value, value_two, op)| Argument {
            index,
            value,
            value_two,
            op,
        })
    }

    fn an_action() -> impl Strategy<Value = (Action, Option<u32>)> {
        use Action::*;
        let action =
            prop_oneof![Just(KillProcess), Just(Trap), Just(Errno), Just(Log), Just(Allow)];
        (action, prop::option::of(1u32..4))
    }

    fn an_entry() -> impl Strategy<Value = Syscalls> {
        let names =
            prop::sample::subsequence(vec!["read", "write", "openat", "close", "futex"], 1..4);
        (names, an_action(), prop::collection::vec(an_argument(), 0..4)).prop_map(
            |(names, (action, errno_ret), args)| Syscalls {
                names: names.into_iter().map(str::to_owned).collect(),
                action,
                errno_ret,
                args,
            },
        )
    }

    proptest! {
        #[test]
        fn the_kernel_is_told_what_a_profile_says(
            (default_action, default_errno_ret) in an_action(),
            syscalls in prop::collection::vec(an_entry(), 0..6),
            arguments in prop::collection::vec(
                prop_oneof![0u64..5, Just(u64::MAX), Just(1 << 32), Just((1 << 32) + 1)], 6),
        ) {
            let profile = SeccompProfile { default_action, default_errno_ret, syscalls };
            let program = profile.filter().unwrap();
            let arguments: [u64; 6] = arguments.try_into().unwrap();
            for name in ["read", "write", "openat", "close", "futex", "getpid"] {
                let call = (Sysno::from_str(name).unwrap().id() as u32, arguments);
                prop_assert_eq!(filter::tests::judge(&program, call), judge(&profile, call), "{}", name);
            }
        }
    }
}
