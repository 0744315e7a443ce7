//! Decides, while a guest runs, which addresses it may use.
//!
//! A rule that names a host allows the addresses that the name was seen to have: those that the
//! guest was given when it looked the name up, and those that the gate finds itself.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mote_spec::{
    Dns, Host, NetGrants, Network, Protocol, Publish, Target, is_private_network, is_public,
    may_stand_for,
};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::denied::{Denied, printable};

/// How many peers of published datagram ports are remembered, to answer them.
const MOST_PEERS: usize = 4_096;
/// How many look-ups of a guest may be under way: each takes a thread of those that all guests share.
const MOST_LOOKUPS: usize = 8;
/// How long one may be answered that was heard at a published datagram port.
const ANSWERS: Duration = Duration::from_secs(60);
/// How long what the name service said of a name is not asked for once more.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What a container may reach, and what is known of names.
pub(crate) struct NetGate {
    grants: NetGrants,
    denied: Denied,
    known: Mutex<Known>,
    /// One for each look-up that may be under way.
    turns: Semaphore,
}

#[derive(Default)]
struct Known {
    addresses: HashMap<String, Vec<IpAddr>>,
    /// When those that were heard at a published datagram port were heard last.
    peers: HashMap<SocketAddr, Instant>,
    /// When a name was looked up here.
    asked: HashMap<String, Instant>,
}

impl NetGate {
    pub(crate) fn new(grants: &NetGrants) -> Arc<NetGate> {
        let grants = grants.clone();
        let turns = Semaphore::new(MOST_LOOKUPS);
        Arc::new(NetGate { grants, denied: Denied::default(), known: Mutex::default(), turns })
    }

    /// Waits for a turn to look a name up.
    pub(crate) async fn look_up_turn(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.turns.acquire().await
    }

    pub(crate) fn grants(&self) -> &NetGrants {
        &self.grants
    }

    /// What the guest was refused.
    pub(crate) fn denied(&self) -> &Denied {
        &self.denied
    }

    /// Listens for a moment on every published port, so that one that is taken is noticed, and named,
    /// before the guest starts.
    pub(crate) fn check_ports(&self) -> Result<(), (SocketAddr, std::io::Error)> {
        for publish in &self.grants.publish {
            let tried = match publish.protocol {
                Protocol::Tcp => std::net::TcpListener::bind(publish.host).map(drop),
                Protocol::Udp => std::net::UdpSocket::bind(publish.host).map(drop),
            };
            tried.map_err(|error| (publish.host, error))?;
        }
        Ok(())
    }

    /// Whether this name may be looked up.
    pub(crate) fn allows_name(&self, name: &str) -> bool {
        // Longer ones are no names (RFC 1035, section 2.3.4).
        if name.len() > 255 {
            return false;
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let named = |rule: &mote_spec::NetRule| rule.target == Target::Name(name.clone());
        let allowed = self.grants.network == Network::Host
            || self.grants.dns == Dns::Allowed
            || self.grants.connect.iter().any(named);
        if !allowed {
            self.denied.note(format!("to look up {}", printable(&name)), "--allow-dns".to_owned());
        }
        allowed
    }

    /// Remembers an address that a name was found to have.
    pub(crate) fn learn(&self, name: &str, address: IpAddr) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let ruled = |rule: &mote_spec::NetRule| rule.target == Target::Name(name.clone());
        if !self.grants.connect.iter().any(ruled) {
            return;
        }
        let address = address.to_canonical();
        if !may_stand_for(&name, address) {
            self.denied.note(
                format!("{} as {address}, which is no public address", printable(&name)),
                format!("--allow-net PROTOCOL://{address}:PORT"),
            );
            return;
        }
        let mut known = self.known();
        let addresses = known.addresses.entry(name).or_default();
        if !addresses.contains(&address) && addresses.len() < 256 {
            addresses.push(address);
        }
    }

    /// Whether an address may be used in this way.
    pub(crate) async fn allows(&self, address: SocketAddr, way: SocketAddrUse) -> bool {
        let allowed = self.grants.network == Network::Host || self.rules_allow(address, way).await;
        if !allowed && let Some((what, flag)) = refusal(address, way) {
            self.denied.note(what, flag);
        }
        allowed
    }

    async fn rules_allow(&self, address: SocketAddr, way: SocketAddrUse) -> bool {
        match way {
            SocketAddrUse::TcpBind => self.may_bind(Protocol::Tcp, address),
            SocketAddrUse::UdpBind => self.may_bind(Protocol::Udp, address),
            SocketAddrUse::TcpListen => self.is_published(Protocol::Tcp, address),
            SocketAddrUse::TcpAccept => true,
            SocketAddrUse::TcpConnect => self.may_reach(Protocol::Tcp, address).await,
            SocketAddrUse::UdpSend => {
                let heard = self.known().peers.get(&address).copied();
                heard.is_some_and(|at| at.elapsed() < ANSWERS)
                    || self.may_reach(Protocol::Udp, address).await
            }
            SocketAddrUse::UdpReceive => self.may_hear(address).await,
        }
    }

    /// The host's address for a port that a guest wants to listen on, and `wanted` where none is
    /// published for it: that is then refused when it is checked.
    pub(crate) fn host_address(&self, protocol: Protocol, wanted: SocketAddr) -> SocketAddr {
        let of_family = |publish: &&Publish| publish.host.is_ipv4() == wanted.is_ipv4();
        let fits =
            |publish: &&Publish| publish.protocol == protocol && publish.guest == wanted.port();
        let mut published = self.grants.publish.iter().filter(fits);
        match (self.grants.network, published.find(of_family)) {
            (Network::Rules, Some(publish)) => publish.host,
            _ => wanted,
        }
    }

    /// The guest's view of a host address that it listens on.
    pub(crate) fn guest_port(&self, protocol: Protocol, host: SocketAddr) -> Option<u16> {
        let same = |publish: &&Publish| publish.protocol == protocol && publish.host == host;
        self.grants.publish.iter().find(same).map(|publish| publish.guest)
    }

    /// An unnamed port is for connecting, which is decided when it happens; a named one has to be
    /// published.
    fn may_bind(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let unnamed = address.port() == 0 && address.ip().is_unspecified();
        unnamed || self.is_published(protocol, address)
    }

    fn is_published(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.grants
            .publish
            .iter()
            .any(|publish| publish.protocol == protocol && publish.host == address)
    }

    async fn may_hear(&self, address: SocketAddr) -> bool {
        let published = self.grants.publish.iter().any(|publish| publish.protocol == Protocol::Udp);
        if published {
            let mut known = self.known();
            if known.peers.len() >= MOST_PEERS {
                known.peers.retain(|_, heard| heard.elapsed() < ANSWERS);
            }
            if known.peers.len() < MOST_PEERS || known.peers.contains_key(&address) {
                known.peers.insert(address, Instant::now());
            }
            return true;
        }
        self.may_reach(Protocol::Udp, address).await
    }

    /// The addresses of a host that an HTTP request may go to. An address goes to itself: a rule named it. A
    /// name goes to what the name service gives, as far as the rules for the name reach.
    pub(crate) async fn http_addresses(&self, host: &Host, port: u16) -> Vec<SocketAddr> {
        let name = match host {
            Host::Address(address) => return vec![SocketAddr::new(*address, port)],
            Host::Name(name) => name,
        };
        let Ok(_turn) = self.look_up_turn().await else { return Vec::new() };
        let found: Vec<SocketAddr> = match tokio::net::lookup_host((name.as_str(), port)).await {
            Ok(found) => found.collect(),
            Err(_) => return Vec::new(),
        };
        let is_named = self.grants.http.iter().any(|rule| rule.names(host));
        let is_local_pattern = self.grants.http.iter().any(mote_spec::HttpRule::is_local_pattern);
        let allowed = |address: &SocketAddr| {
            self.grants.network == Network::Host
                || is_public(address.ip())
                || (is_named && may_stand_for(name, address.ip()))
                || (is_local_pattern && host.is_local() && is_local_address(name, address.ip()))
                || self.reaches(Protocol::Tcp, *address)
        };
        let (may, may_not): (Vec<_>, Vec<_>) = found.into_iter().partition(allowed);
        if let (true, Some(address)) = (may.is_empty(), may_not.first()) {
            self.denied.note(
                format!("{} as {}, which is no public address", printable(name), address.ip()),
                format!("--allow-net tcp://{address}"),
            );
        }
        may
    }

    async fn may_reach(&self, protocol: Protocol, address: SocketAddr) -> bool {
        if self.reaches(protocol, address) {
            return true;
        }
        // The guest may have an address that was looked up elsewhere: see for ourselves.
        for rule in &self.grants.connect {
            if let Target::Name(name) = &rule.target
                && rule.protocol == protocol
                && rule.ports.contains(address.port())
                && self.looks_again(name)
                && let Ok(_turn) = self.look_up_turn().await
                && let Ok(found) = tokio::net::lookup_host((name.as_str(), 0)).await
            {
                found.for_each(|found| self.learn(name, found.ip()));
                self.known().asked.insert(name.clone(), Instant::now());
            }
        }
        self.reaches(protocol, address)
    }

    /// Whether it is time to ask the name service for a name once more: a guest that is refused may try as
    /// often as it likes.
    fn looks_again(&self, name: &str) -> bool {
        let asked = self.known().asked.get(name).copied();
        asked.is_none_or(|last| last.elapsed() >= LOOK_AGAIN)
    }

    fn reaches(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let known = self.known();
        self.grants.connect.iter().any(|rule| {
            let named = match &rule.target {
                Target::Name(name) => {
                    known.addresses.get(name).map(Vec::as_slice).unwrap_or_default()
                }
                Target::Any | Target::Range(_) => &[],
            };
            rule.allows(protocol, address, named)
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a pattern for names of a local domain stands for an address: one of a private network, and of this machine
/// alone for `localhost`.
fn is_local_address(name: &str, address: IpAddr) -> bool {
    is_private_network(address) || (name.ends_with(".localhost") && address.is_loopback())
}

/// What was refused and the flag that would have allowed it, where the guest itself chose the address:
/// what strangers send is no reason to let them in.
fn refusal(address: SocketAddr, way: SocketAddrUse) -> Option<(String, String)> {
    let port = address.port();
    let (what, flag) = match way {
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind if port == 0 => return None,
        SocketAddrUse::TcpAccept | SocketAddrUse::UdpReceive => return None,
        SocketAddrUse::TcpBind => (format!("port {port}"), format!("-p HOST_PORT:{port}")),
        SocketAddrUse::UdpBind => (format!("port {port}/udp"), format!("-p HOST_PORT:{port}/udp")),
        // On a port that the host chose.
        SocketAddrUse::TcpListen => ("to listen".to_owned(), "-p HOST_PORT:GUEST_PORT".to_owned()),
        SocketAddrUse::TcpConnect => {
            (format!("to connect to {address}"), format!("--allow-net tcp://{address}"))
        }
        SocketAddrUse::UdpSend => {
            (format!("to send to {address}"), format!("--allow-net udp://{address}"))
        }
    };
    Some((what, flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(connect: &[&str], publish: &[&str]) -> Arc<NetGate> {
        let grants = NetGrants {
            connect: connect.iter().map(|rule| rule.parse().unwrap()).collect(),
            publish: publish.iter().map(|rule| rule.parse().unwrap()).collect(),
            ..NetGrants::default()
        };
        NetGate::new(&grants)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn nothing_is_reached_without_a_rule() {
        let gate = gate(&[], &[]);
        for way in [
            SocketAddrUse::TcpConnect,
            SocketAddrUse::UdpSend,
            SocketAddrUse::TcpBind,
            SocketAddrUse::UdpReceive,
        ] {
            assert!(!gate.allows(at("127.0.0.1:80"), way).await, "{way:?}");
        }
        let flags: Vec<String> =
            gate.denied().all().into_iter().map(|refusal| refusal.flag).collect();
        assert_eq!(
            flags,
            ["-p HOST_PORT:80", "--allow-net tcp://127.0.0.1:80", "--allow-net udp://127.0.0.1:80"]
        );
    }

    #[tokio::test]
    async fn a_name_allows_the_addresses_that_it_was_seen_to_have() {
        let gate = gate(&["tcp://db.invalid:5432"], &[]);
        assert!(!gate.allows(at("9.9.9.9:5432"), SocketAddrUse::TcpConnect).await);
        gate.learn("DB.invalid.", "9.9.9.9".parse().unwrap());
        assert!(gate.allows(at("9.9.9.9:5432"), SocketAddrUse::TcpConnect).await);
        assert!(!gate.allows(at("9.9.9.9:5433"), SocketAddrUse::TcpConnect).await);
        assert!(gate.allows_name("db.invalid") && !gate.allows_name("other.invalid"));
        assert!(!gate.allows_name(&"a.".repeat(200)));
    }

    #[tokio::test]
    async fn a_public_name_does_not_lead_to_the_private_network() {
        let gate = gate(&["tcp://db.invalid:80", "tcp://db.lan:80", "tcp://10.1.0.0/16:80"], &[]);
        for address in
            ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            let address: IpAddr = address.parse().unwrap();
            gate.learn("db.invalid", address);
            let to = SocketAddr::new(address, 80);
            assert!(!gate.allows(to, SocketAddrUse::TcpConnect).await, "{address}");
        }
        let refused =
            gate.denied().all().into_iter().find(|refusal| refusal.what.contains("as 10.0.0.1"));
        assert!(
            refused.is_some_and(|refusal| refusal.flag == "--allow-net PROTOCOL://10.0.0.1:PORT")
        );
        gate.learn("db.lan", "10.0.0.1".parse().unwrap());
        assert!(gate.allows(at("10.0.0.1:80"), SocketAddrUse::TcpConnect).await, "a local name");
        assert!(
            gate.allows(at("10.1.0.1:80"), SocketAddrUse::TcpConnect).await,
            "a rule of its own"
        );
    }

    #[tokio::test]
    async fn only_published_ports_are_listened_on_and_at_the_hosts_address() {
        let gate = gate(&[], &["127.0.0.1:9000:80"]);
        let host = gate.host_address(Protocol::Tcp, at("0.0.0.0:80"));
        assert_eq!(host, at("127.0.0.1:9000"));
        assert!(gate.allows(host, SocketAddrUse::TcpBind).await);
        assert!(gate.allows(host, SocketAddrUse::TcpListen).await);
        assert_eq!(gate.guest_port(Protocol::Tcp, host), Some(80));
        let other = gate.host_address(Protocol::Tcp, at("0.0.0.0:81"));
        assert!(!gate.allows(other, SocketAddrUse::TcpBind).await);
        assert!(gate.allows(at("0.0.0.0:0"), SocketAddrUse::TcpBind).await, "to connect from");
        assert!(!gate.allows(at("0.0.0.0:40000"), SocketAddrUse::TcpListen).await);
        assert!(!gate.allows(at("127.0.0.1:0"), SocketAddrUse::TcpBind).await);
    }

    #[tokio::test]
    async fn a_published_datagram_port_answers_those_who_spoke_to_it() {
        let gate = gate(&[], &["127.0.0.1:53:53/udp"]);
        let peer = at("192.0.2.9:4000");
        assert!(!gate.allows(peer, SocketAddrUse::UdpSend).await);
        assert!(gate.allows(peer, SocketAddrUse::UdpReceive).await);
        assert!(gate.allows(peer, SocketAddrUse::UdpSend).await);
    }
}
