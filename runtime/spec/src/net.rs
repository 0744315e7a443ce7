//! Rules about the network: which connections, which HTTP requests, which published ports.
//!
//! A rule is only a description. `covers` says whether one rule allows all that another asks.

mod host;
mod text;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;
use host::is_local_name;
pub use host::{Host, is_private_network, is_public, may_stand_for};
pub use text::RuleError;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Whom a connection rule allows to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Every address.
    Any,
    /// The addresses that this lower-case name resolves to.
    Name(String),
    /// An address or a range.
    Range(IpNet),
}

impl Target {
    fn covers(&self, asked: &Target) -> bool {
        match (self, asked) {
            (Target::Any, _) => true,
            (Target::Name(mine), Target::Name(other)) => mine == other,
            (Target::Range(mine), Target::Range(other)) => mine.contains(other),
            (Target::Name(_) | Target::Range(_), _) => false,
        }
    }
}

/// Inclusive port ranges, sorted and apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&port))
    }

    fn covers(&self, asked: &Ports) -> bool {
        let within = |&(low, high): &(u16, u16)| self.0.iter().any(|&(a, b)| a <= low && high <= b);
        asked.0.iter().all(within)
    }
}

/// Outgoing connections that are allowed: `tcp://db.example.com:5432`, `udp://10.0.0.0/8:53,123`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetRule {
    pub protocol: Protocol,
    pub target: Target,
    pub ports: Ports,
}

impl NetRule {
    /// Whether a connection to this address is allowed; `named` are the addresses of a name target.
    pub fn allows(&self, protocol: Protocol, to: SocketAddr, named: &[IpAddr]) -> bool {
        let reaches = match &self.target {
            Target::Any => true,
            Target::Name(_) => named.contains(&to.ip().to_canonical()),
            Target::Range(range) => range.contains(&to.ip().to_canonical()),
        };
        self.protocol == protocol && reaches && self.ports.contains(to.port())
    }

    /// Whether this rule allows all that `asked` would.
    pub fn covers(&self, asked: &NetRule) -> bool {
        self.protocol == asked.protocol
            && self.target.covers(&asked.target)
            && self.ports.covers(&asked.ports)
    }
}

/// The schemes of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Outgoing HTTP requests that are allowed: `https://api.example.com/v1`, `http://*.local:8080`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpRule {
    scheme: Scheme,
    /// A lower-case host; `*.` in front stands for one or more labels, `*` for every host.
    host: String,
    port: u16,
    /// Empty, or `/` and a path without a trailing slash.
    path: String,
}

impl HttpRule {
    /// Whether it names this very host, and not by a pattern.
    pub fn names(&self, host: &Host) -> bool {
        self.host == host.to_string()
    }

    /// The port that its requests go to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a request to this place is allowed. A pattern stands for no address, and for local names only
    /// below a local domain of its own (`*.lan`).
    ///
    /// A path that climbs (`..`, also percent-encoded) is under no path but the root.
    pub fn allows(&self, scheme: Scheme, host: &Host, port: Option<u16>, path: &str) -> bool {
        self.scheme == scheme
            && self.port == port.unwrap_or(scheme.default_port())
            && (self.names(host) || self.stands_for(&host.to_string()))
            && path_is_below(&self.path, path)
    }

    /// Whether this rule allows all that `asked` would.
    pub fn covers(&self, asked: &HttpRule) -> bool {
        self.scheme == asked.scheme
            && self.port == asked.port
            && (self.host == asked.host || self.stands_for(&asked.host))
            && path_is_below(&self.path, &asked.path)
    }

    /// Whether it is a pattern that stands for a host, or for all that a narrower pattern stands for.
    fn stands_for(&self, host: &str) -> bool {
        let Some(suffix) = self.host.strip_prefix('*') else { return false };
        // A narrower pattern is as local as a name below its domain.
        let name = host.strip_prefix("*.").map_or(host.to_owned(), |domain| format!("a.{domain}"));
        match Host::read(&name) {
            Some(host @ Host::Name(_)) if host.is_local() && !self.is_local_pattern() => false,
            Some(Host::Name(_)) => {
                suffix.is_empty() || (host.len() > suffix.len() && host.ends_with(suffix))
            }
            Some(Host::Address(_)) | None => false,
        }
    }

    /// Whether it is a pattern for the names below a domain of a local network.
    pub fn is_local_pattern(&self) -> bool {
        self.host.strip_prefix("*.").is_some_and(|domain| is_local_name(&format!("a.{domain}")))
    }
}

fn path_is_below(prefix: &str, path: &str) -> bool {
    if prefix.is_empty() {
        return true;
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let lower = path
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/")
        .replace("%3b", ";");
    // What a server may make of a path is its own affair: nothing that any of them takes for a way up.
    let climbs = lower.replace('\\', "/").split('/').any(|part| {
        part == ".."
            || part.starts_with("..;")
            || ["%25", "%00", "%c0", "%c1", "%u"].iter().any(|code| part.contains(code))
    });
    let rest = path.strip_prefix(prefix);
    !climbs && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A listening port: the guest's port, and the address and port of the host that lead to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publish {
    pub protocol: Protocol,
    pub host: SocketAddr,
    pub guest: u16,
}

serde_as_text!(NetRule, HttpRule, Publish);

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> NetRule {
        text.parse().unwrap()
    }

    fn http(text: &str) -> HttpRule {
        text.parse().unwrap()
    }

    #[test]
    fn a_connection_rule_allows_what_it_names_and_nothing_else() {
        let rule = net("tcp://10.0.0.0/8:443,8000-8100");
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(rule.allows(Protocol::Tcp, to("10.9.9.9:443"), &[]));
        assert!(
            rule.allows(Protocol::Tcp, to("[::ffff:10.1.1.1]:8050"), &[]),
            "mapped is the same"
        );
        assert!(!rule.allows(Protocol::Udp, to("10.9.9.9:443"), &[]));
        assert!(!rule.allows(Protocol::Tcp, to("11.0.0.1:443"), &[]));
        assert!(!rule.allows(Protocol::Tcp, to("10.0.0.1:8101"), &[]));
        let named = net("tcp://db.example.com:5432");
        assert!(named.allows(Protocol::Tcp, to("192.0.2.1:5432"), &["192.0.2.1".parse().unwrap()]));
        assert!(!named.allows(
            Protocol::Tcp,
            to("192.0.2.2:5432"),
            &["192.0.2.1".parse().unwrap()]
        ));
    }

    #[test]
    fn a_rule_covers_what_is_narrower() {
        assert!(net("tcp://*:*").covers(&net("tcp://a.example:1")));
        assert!(net("tcp://10.0.0.0/8:*").covers(&net("tcp://10.1.2.3:80")));
        assert!(!net("tcp://10.0.0.0/8:80").covers(&net("tcp://10.0.0.0/7:80")));
        assert!(!net("tcp://a.example:80").covers(&net("tcp://*:80")));
        assert!(!net("tcp://*:80").covers(&net("udp://*:80")));
        assert!(http("https://*.example.com").covers(&http("https://api.example.com/v1")));
        assert!(!http("https://api.example.com/v1").covers(&http("https://api.example.com")));
        assert!(!http("https://*.example.com").covers(&http("http://api.example.com")));
    }

    #[test]
    fn an_http_path_cannot_be_climbed_out_of() {
        let rule = http("https://api.example.com/v1");
        let host = |text| Host::read(text).unwrap();
        let ask = |path| rule.allows(Scheme::Https, &host("API.example.com"), None, path);
        assert!(ask("/v1") && ask("/v1/x?y=..") && ask("/v1/"));
        for bad in [
            "/",
            "/v10",
            "/v2",
            "/v1/../v2",
            "/v1/%2e%2E/v2",
            "/v1/..%2fv2",
            "/v1/..\\v2",
            "/v1/%c0%ae%c0%ae/v2",
            "/v1/%u002e%u002e/v2",
            "/v1/..%3bx/v2",
        ] {
            assert!(!ask(bad), "{bad}");
        }
        assert!(!rule.allows(Scheme::Https, &host("api.example.com"), Some(8443), "/v1"));
        assert!(!http("https://*.example.com").allows(
            Scheme::Https,
            &host("example.com"),
            None,
            "/"
        ));
        assert!(!http("https://*.example.com").allows(
            Scheme::Https,
            &host("evilexample.com"),
            None,
            "/"
        ));
    }

    #[test]
    fn a_pattern_stands_for_no_address_and_no_local_name() {
        let ask = |rule: &str, host: &str| {
            let host = Host::read(host).unwrap();
            http(rule).allows(Scheme::Http, &host, None, "/")
        };
        assert!(ask("http://*", "api.example.com"));
        for host in
            ["2130706433", "0x7f000001", "017700000001", "0", "127.0.0.1", "9.9.9.9", "localhost"]
        {
            assert!(!ask("http://*", host), "{host}");
        }
        assert!(!ask("http://*", "printer.lan") && ask("http://*.lan", "printer.lan"));
        assert!(ask("http://localhost", "localhost") && ask("http://127.0.0.1", "2130706433"));
        assert!(!http("http://*").covers(&http("http://localhost")));
        assert!(!http("http://*").covers(&http("http://*.lan")));
        assert!(http("http://*").covers(&http("http://*.example.com")));
        assert!(http("http://*").covers(&http("http://*.com")));
    }
}
