//! Rules about the network as people write them, and back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use super::{Host, HttpRule, NetRule, Ports, Protocol, Publish, Scheme, Target};

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error(
        "`{0}` is not a connection rule: write tcp://HOST_OR_CIDR:PORTS or udp://…, such as \
         tcp://db.example.com:5432, udp://10.0.0.0/8:53,123 or tcp://*:8000-8100"
    )]
    Net(String),
    #[error(
        "`{0}` is not an HTTP rule: write https://HOST[:PORT][/PATH], such as https://*.example.com/v1"
    )]
    Http(String),
    #[error("`{0}` does not publish a port: write [ADDRESS:]HOST_PORT:GUEST_PORT[/udp]")]
    Publish(String),
    #[error(
        "`{0}` is not a set of ports: write numbers and ranges from 1 to 65535, such as 80,8000-8100"
    )]
    Ports(String),
}

impl FromStr for Ports {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Ports, RuleError> {
        let bad = || RuleError::Ports(text.into());
        if text == "*" {
            return Ok(Ports(vec![(1, u16::MAX)]));
        }
        let number = |part: &str| part.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad);
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (low, high) = match part.split_once('-') {
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(part)?, number(part)?),
            };
            if low > high {
                return Err(bad());
            }
            ranges.push((low, high));
        }
        Ok(Ports(merged(ranges)))
    }
}

/// Sorts ranges and joins those that touch, so that equal sets are equal values.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

impl FromStr for NetRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<NetRule, RuleError> {
        let bad = || RuleError::Net(text.into());
        let (protocol, rest) = text.split_once("://").ok_or_else(bad)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(bad()),
        };
        let (target, ports) = rest.rsplit_once(':').ok_or_else(bad)?;
        let target = parse_target(target).ok_or_else(bad)?;
        Ok(NetRule { protocol, target, ports: ports.parse()? })
    }
}

fn parse_target(text: &str) -> Option<Target> {
    if text == "*" {
        return Some(Target::Any);
    }
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if text.contains(':') => return None,
        None => text,
    };
    if let Ok(range) = address.parse::<IpNet>() {
        return Some(Target::Range(range.trunc()));
    }
    if let Ok(one) = address.parse::<IpAddr>() {
        return Some(Target::Range(IpNet::from(one)));
    }
    match Host::read(address)? {
        Host::Address(one) => Some(Target::Range(IpNet::from(one))),
        Host::Name(name) => is_host_name(&name).then_some(Target::Name(name)),
    }
}

fn is_host_name(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= 253 && text.split('.').all(label) && text.bytes().any(|b| b.is_ascii_alphabetic())
}

impl FromStr for HttpRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<HttpRule, RuleError> {
        parse_http(text).ok_or_else(|| RuleError::Http(text.into()))
    }
}

fn parse_http(text: &str) -> Option<HttpRule> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    if path.contains(['?', '#', '\\']) || path.split('/').any(|part| part == "..") {
        return None;
    }
    let (host, port) = split_port(authority)?;
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0)?,
        None => scheme.default_port(),
    };
    let host = match (host, host.strip_prefix("*.")) {
        ("*", _) => host.to_owned(),
        (_, Some(domain)) => match Host::read(domain)? {
            Host::Name(domain) if is_host_name(&domain) => format!("*.{domain}"),
            Host::Name(_) | Host::Address(_) => return None,
        },
        (_, None) => match Host::read(host)? {
            Host::Name(name) if !is_host_name(&name) => return None,
            host => host.to_string(),
        },
    };
    Some(HttpRule { scheme, host, port, path: path.trim_end_matches('/').to_owned() })
}

/// Parts `host:port`, `[v6]:port` or a bare host.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let port_at = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(port_at);
    if rest.is_empty() {
        return Some((host, None));
    }
    Some((host, Some(rest.strip_prefix(':')?)))
}

impl FromStr for Publish {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Publish, RuleError> {
        parse_publish(text).ok_or_else(|| RuleError::Publish(text.into()))
    }
}

fn parse_publish(text: &str) -> Option<Publish> {
    let (ports, protocol) = match text.rsplit_once('/') {
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some(_) => return None,
        None => (text, Protocol::Tcp),
    };
    let (rest, guest) = ports.rsplit_once(':')?;
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (address.trim_matches(['[', ']']).parse::<IpAddr>().ok()?, host),
        None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), rest),
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    Some(Publish { protocol, host: SocketAddr::new(address, port(host)?), guest: port(guest)? })
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == [(1, u16::MAX)] {
            return f.write_str("*");
        }
        for (at, (low, high)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Any => f.write_str("*"),
            Target::Name(name) => f.write_str(name),
            Target::Range(IpNet::V4(range)) if range.prefix_len() == 32 => range.addr().fmt(f),
            Target::Range(IpNet::V4(range)) => range.fmt(f),
            Target::Range(IpNet::V6(range)) if range.prefix_len() == 128 => {
                write!(f, "[{}]", range.addr())
            }
            Target::Range(IpNet::V6(range)) => write!(f, "[{range}]"),
        }
    }
}

impl fmt::Display for NetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.protocol, self.target, self.ports)
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.guest)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> NetRule {
        text.parse().unwrap()
    }

    fn http(text: &str) -> HttpRule {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            "",
            "tcp://a",
            "tcp://a:0",
            "tcp://a:99999",
            "tcp://a:9-1",
            "icmp://a:1",
            "tcp://:80",
            "tcp://::1:80",
            "tcp://10.0.0.0/33:1",
            "tcp://user@a:1",
            "tcp://a b:1",
        ] {
            assert!(bad.parse::<NetRule>().is_err(), "{bad}");
        }
        for bad in [
            "",
            "ftp://a",
            "https://",
            "https://u@a",
            "https://a:b",
            "https://a/../b",
            "https://a?x",
            "https://*a.b",
            "https://a:",
        ] {
            assert!(bad.parse::<HttpRule>().is_err(), "{bad}");
        }
        for bad in ["", "80", "0:80", "80:0", "x:80:80", "80:80/icmp", "1:2:3:4"] {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn connection_rules_print_as_they_parse(
            protocol in "tcp|udp",
            target in prop_oneof![
                Just("*".to_owned()),
                "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}",
                (any::<u32>(), 0u8..=32).prop_map(|(ip, len)| format!("{}/{len}", Ipv4Addr::from(ip))),
                any::<u128>().prop_map(|ip| format!("[{}]", std::net::Ipv6Addr::from(ip))),
            ],
            ports in prop::collection::vec((1u16.., 0u16..500), 1..4),
        ) {
            let ports: Vec<String> =
                ports.iter().map(|(low, more)| format!("{low}-{}", low.saturating_add(*more))).collect();
            let rule = net(&format!("{protocol}://{target}:{}", ports.join(",")));
            prop_assert_eq!(net(&rule.to_string()), rule.clone());
            prop_assert!(rule.covers(&rule));
        }

        #[test]
        fn http_rules_and_ports_print_as_they_parse(
            scheme in "https?", host in "(\\*\\.)?[a-z]{1,8}\\.[a-z]{2,3}", port in prop::option::of(1u16..),
            path in "(/[a-z0-9]{1,5}){0,3}/?", guest in 1u16.., udp in any::<bool>(), ip in any::<u128>(),
        ) {
            let port_text = port.map(|port| format!(":{port}")).unwrap_or_default();
            let rule = http(&format!("{scheme}://{host}{port_text}{path}"));
            prop_assert_eq!(http(&rule.to_string()), rule.clone());
            prop_assert!(rule.covers(&rule));
            let suffix = if udp { "/udp" } else { "" };
            let text = format!("[{}]:{guest}:{guest}{suffix}", std::net::Ipv6Addr::from(ip));
            let publish: Publish = text.parse().unwrap();
            prop_assert_eq!(publish.to_string().parse::<Publish>().unwrap(), publish);
        }

        #[test]
        fn any_text_is_a_rule_or_an_error(text in "\\PC{0,40}") {
            let _ = (text.parse::<NetRule>(), text.parse::<HttpRule>(), text.parse::<Publish>());
        }
    }
}
