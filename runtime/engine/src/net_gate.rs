//! Decides, while a guest runs, which addresses it may use.
//!
//! A rule that names a host allows the addresses that the name was seen to have: those that the
//! guest was given when it looked the name up, and those that the gate finds itself.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mote_spec::{Dns, NetGrants, Network, Protocol, Publish, Target};
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::denied::{Denied, printable};

/// How many peers of published datagram ports are remembered, to answer them.
const MOST_PEERS: usize = 4_096;

/// What a container may reach, and what is known of names.
pub(crate) struct NetGate {
    grants: NetGrants,
    denied: Denied,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    addresses: HashMap<String, Vec<IpAddr>>,
    peers: HashSet<SocketAddr>,
}

impl NetGate {
    pub(crate) fn new(grants: &NetGrants) -> Arc<NetGate> {
        let grants = grants.clone();
        Arc::new(NetGate { grants, denied: Denied::default(), known: Mutex::default() })
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
        let mut known = self.known();
        let addresses = known.addresses.entry(name).or_default();
        if !addresses.contains(&address) && addresses.len() < 256 {
            addresses.push(address.to_canonical());
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
                self.known().peers.contains(&address)
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
            if known.peers.len() < MOST_PEERS {
                known.peers.insert(address);
            }
            return true;
        }
        self.may_reach(Protocol::Udp, address).await
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
                && let Ok(found) = tokio::net::lookup_host((name.as_str(), 0)).await
            {
                found.for_each(|found| self.learn(name, found.ip()));
            }
        }
        self.reaches(protocol, address)
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
        assert!(!gate.allows(at("192.0.2.1:5432"), SocketAddrUse::TcpConnect).await);
        gate.learn("DB.invalid.", "192.0.2.1".parse().unwrap());
        assert!(gate.allows(at("192.0.2.1:5432"), SocketAddrUse::TcpConnect).await);
        assert!(!gate.allows(at("192.0.2.1:5433"), SocketAddrUse::TcpConnect).await);
        assert!(gate.allows_name("db.invalid") && !gate.allows_name("other.invalid"));
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
