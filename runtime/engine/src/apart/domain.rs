//! The Landlock domain of a guest's process: the directories and TCP ports that its guest was granted,
//! and nothing else of the machine.

use std::fs::File;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    NetPort, PathBeneath, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use mote_spec::{Access, NetGrants, Network, Protocol};

use crate::error::EngineError;
use crate::handles::{Handles, OpenDir};
use crate::mechanisms::Layer;

/// The newest rules that are asked for; an older kernel holds those that it knows.
const NEWEST: ABI = ABI::V6;

/// More ports than this are all ports: each is a rule of its own in the kernel.
const MOST_PORTS: usize = 1_024;

/// A domain that is not entered yet.
pub(crate) struct Domain(RulesetCreated);

impl Domain {
    /// The domain of what a guest has open and may reach.
    pub(crate) fn of(handles: &Handles, net: &NetGrants) -> Result<Domain, EngineError> {
        let failed = |error: landlock::RulesetError| wall("describe a Landlock domain", error);
        let connect = ports_to_connect(net);
        let listen = net.network == Network::Rules;
        let mut access = BitFlags::<AccessNet>::empty();
        if connect.is_some() {
            access |= AccessNet::ConnectTcp;
        }
        if listen {
            access |= AccessNet::BindTcp;
        }
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))
            .map_err(failed)?;
        if !access.is_empty() {
            rules = rules.handle_access(access).map_err(failed)?;
        }
        let rules = rules.scope(Scope::from_all(NEWEST)).map_err(failed)?;
        let mut rules = rules.create().map_err(failed)?;
        for dir in handles.dirs.iter().chain(&handles.cwd) {
            let rule = PathBeneath::new(dir.as_fd(), allowed(dir));
            rules = rules.add_rule(rule).map_err(failed)?;
        }
        for file in names_files(net) {
            let rule = PathBeneath::new(file, AccessFs::ReadFile);
            rules = rules.add_rule(rule).map_err(failed)?;
        }
        for port in connect.into_iter().flatten() {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(failed)?;
        }
        if listen {
            for port in ports_to_listen(net) {
                rules = rules.add_rule(NetPort::new(port, AccessNet::BindTcp)).map_err(failed)?;
            }
        }
        Ok(Domain(rules))
    }

    /// Enters the domain, and tells what of it the kernel cannot hold.
    pub(crate) fn enter(self) -> Result<Vec<Layer>, EngineError> {
        let status = self.0.restrict_self();
        let status = status.map_err(|error| wall("enter its Landlock domain", error))?;
        Ok(missing(&status.landlock))
    }
}

/// What this kernel lacks of Landlock: found out by a thread that enters a domain, and ends.
pub(super) fn lacking() -> Vec<Layer> {
    let tried = std::thread::spawn(|| {
        let rules =
            Ruleset::default().handle_access(AccessFs::from_all(NEWEST)).ok()?.create().ok()?;
        Some(missing(&rules.restrict_self().ok()?.landlock))
    });
    let none = || vec![Layer::Landlock, Layer::LandlockPorts, Layer::LandlockScope];
    tried.join().ok().flatten().unwrap_or_else(none)
}

/// What a kernel lacks of Landlock.
fn missing(landlock: &LandlockStatus) -> Vec<Layer> {
    let has = match landlock {
        LandlockStatus::Available { effective_abi, .. } => *effective_abi,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
    };
    let since = [
        (Layer::Landlock, ABI::V3),
        (Layer::LandlockPorts, ABI::V4),
        (Layer::LandlockScope, ABI::V6),
    ];
    // Before the third, what is read-only could be emptied.
    since.into_iter().filter(|(_, abi)| has < *abi).map(|(layer, _)| layer).collect()
}

/// What may be done below a directory: never to run a file, nor to make a device or a socket.
fn allowed(dir: &OpenDir) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match dir.access {
        Access::ReadOnly => read,
        Access::ReadWrite => {
            read | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::RemoveDir
                | AccessFs::RemoveFile
                | AccessFs::MakeDir
                | AccessFs::MakeReg
                | AccessFs::MakeSym
                | AccessFs::Refer
        }
    }
}

/// The ports that may be connected to; none where every one may.
fn ports_to_connect(net: &NetGrants) -> Option<Vec<u16>> {
    if net.network == Network::Host {
        return None;
    }
    let tcp = |rule: &&mote_spec::NetRule| rule.protocol == Protocol::Tcp;
    let ruled = |port: &u16| net.connect.iter().filter(tcp).any(|rule| rule.ports.contains(*port));
    let mut ports: Vec<u16> = (1..=u16::MAX).filter(ruled).take(MOST_PORTS + 1).collect();
    if ports.len() > MOST_PORTS {
        return None;
    }
    ports.extend(net.http.iter().map(mote_spec::HttpRule::port));
    // Long answers to look-ups.
    if names_are_looked_up(net) {
        ports.push(53);
    }
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

/// The ports that may be listened on, and the one that stands for any of the kernel's choice.
fn ports_to_listen(net: &NetGrants) -> impl Iterator<Item = u16> {
    let tcp = net.publish.iter().filter(|publish| publish.protocol == Protocol::Tcp);
    // One that the kernel chooses, as a guest asks for that listens wherever it may.
    let any = (!net.publish.is_empty()).then_some(0);
    tcp.map(|publish| publish.host.port()).chain(any)
}

/// Whether a guest may cause a name to be looked up.
pub(crate) fn names_are_looked_up(net: &NetGrants) -> bool {
    net.network == Network::Host
        || net.dns == mote_spec::Dns::Allowed
        || !net.http.is_empty()
        || net.connect.iter().any(|rule| matches!(rule.target, mote_spec::Target::Name(_)))
}

/// The files by which the C library looks names up (resolver(3), nsswitch.conf(5), gai.conf(5)).
fn names_files(net: &NetGrants) -> Vec<File> {
    if !names_are_looked_up(net) {
        return Vec::new();
    }
    let names = ["hosts", "resolv.conf", "nsswitch.conf", "host.conf", "gai.conf"];
    // One that is not there is not read.
    names.iter().filter_map(|name| File::open(Path::new("/etc").join(name)).ok()).collect()
}

fn wall(what: &'static str, error: landlock::RulesetError) -> EngineError {
    EngineError::Wall { what, source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(connect: &[&str]) -> NetGrants {
        let connect = connect.iter().map(|rule| rule.parse().unwrap()).collect();
        NetGrants { connect, ..NetGrants::default() }
    }

    #[test]
    fn ports_are_those_of_the_rules() {
        assert_eq!(ports_to_connect(&NetGrants::default()), Some(vec![]));
        assert_eq!(ports_to_connect(&net(&["tcp://10.0.0.1:80-82"])), Some(vec![80, 81, 82]));
        assert_eq!(ports_to_connect(&net(&["tcp://a.b:443"])), Some(vec![53, 443]));
        assert_eq!(ports_to_connect(&net(&["udp://10.0.0.1:53"])), Some(vec![]));
        assert_eq!(ports_to_connect(&net(&["tcp://*:*"])), None, "every port needs no rules");
        let mut http = NetGrants { http: vec!["https://a.b".parse().unwrap()], ..net(&[]) };
        assert_eq!(ports_to_connect(&http), Some(vec![53, 443]));
        http.publish.push("8080:80".parse().unwrap());
        assert_eq!(ports_to_listen(&http).collect::<Vec<_>>(), [8080, 0]);
        assert_eq!(ports_to_listen(&NetGrants::default()).count(), 0);
    }

    /// Needs a kernel with Landlock for ports, as the tests of processes of guests do.
    #[test]
    fn only_granted_ports_are_left_in_a_domain() {
        use std::net::{TcpListener, TcpStream};
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [granted, other] = listeners.each_ref().map(|one| one.local_addr().unwrap());
        let grants = net(&[&format!("tcp://127.0.0.1:{}", granted.port())]);
        // A domain is a thread's own.
        let tried = std::thread::spawn(move || {
            let handles = crate::handles::open(&Default::default(), None, None, None).unwrap();
            rustix::thread::set_no_new_privs(true).unwrap();
            let lacks = Domain::of(&handles, &grants).unwrap().enter().unwrap();
            let denied =
                |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
            (
                lacks,
                TcpStream::connect(granted).is_ok(),
                TcpStream::connect(other).is_err_and(denied),
                TcpListener::bind("127.0.0.1:1").is_err_and(denied),
                File::open("/etc/passwd").is_err_and(denied),
            )
        });
        assert_eq!(tried.join().unwrap(), (vec![], true, true, true, true));
    }

    #[test]
    fn an_old_kernel_lacks_what_came_later() {
        let of =
            |effective_abi| missing(&LandlockStatus::Available { effective_abi, kernel_abi: None });
        assert_eq!(missing(&LandlockStatus::NotImplemented).len(), 3);
        assert_eq!(of(ABI::V3), [Layer::LandlockPorts, Layer::LandlockScope]);
        assert_eq!(of(ABI::V6), []);
    }
}
