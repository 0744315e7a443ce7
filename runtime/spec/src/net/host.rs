//! Hosts as whoever connects reads them, and addresses that are not of the public internet.
//!
//! The C library takes `2130706433`, `0x7f000001`, `017700000001` and `127.1` for 127.0.0.1 (inet_aton(3)). A rule
//! that compared texts would take them for names; so rules and requests are read here, in one way.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The host of a request or a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Address(IpAddr),
    /// In lower case, without a final dot.
    Name(String),
}

impl Host {
    /// Reads a host; `None` for a text that some readers take for a number and others for a name.
    pub fn read(text: &str) -> Option<Host> {
        if let Some(v6) = text.strip_prefix('[') {
            let address: Ipv6Addr = v6.strip_suffix(']')?.parse().ok()?;
            return Some(Host::Address(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Host::Address(address.to_canonical()));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.is_empty() || name.contains(':') {
            return None;
        }
        match number(last) {
            None if is_numeric(last) => None,
            None => Some(Host::Name(name)),
            Some(_) => numeric_address(&name).map(|address| Host::Address(address.into())),
        }
    }

    /// Whether it is a name of a local network, whose owner answers for it.
    pub fn is_local(&self) -> bool {
        matches!(self, Host::Name(name) if is_local_name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// Whether a label is digits alone, which no name's last label is (RFC 3696, section 2).
fn is_numeric(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit())
}

/// One part of an address: decimal, octal behind `0`, or hexadecimal behind `0x`.
fn number(part: &str) -> Option<u64> {
    if let Some(hex) = part.strip_prefix("0x") {
        return match hex.is_empty() {
            true => Some(0),
            false => u64::from_str_radix(hex, 16).ok(),
        };
    }
    if !is_numeric(part) {
        return None;
    }
    match part.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => part.parse().ok(),
    }
}

/// An address of one to four numbers, the last of which fills what the others leave.
fn numeric_address(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let free = 4usize.checked_sub(first.len()).filter(|free| *free > 0)?;
    if first.iter().any(|part| *part > 255) || *last >= 1 << (8 * free) {
        return None;
    }
    let high = first.iter().fold(0, |sum, part| sum << 8 | part);
    Some(Ipv4Addr::from(u32::try_from(high << (8 * free) | last).ok()?))
}

/// The blocks of IANA's IPv4 special-purpose registry that are not globally reachable, and multicast.
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The block of global unicast addresses (IANA, IPv6 address space).
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The blocks within it of IANA's IPv6 special-purpose registry that are not, or not simply, the address of one
/// host: protocol assignments with Teredo in them, documentation, 6to4.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// The well-known prefix of NAT64, behind which there is an IPv4 address (RFC 6052, section 2.1). The local one,
/// 64:ff9b:1::/48, leads to where only the local network knows.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address is one of the public internet: not of this machine, of a private network, of a link, or of
/// another special purpose (IANA's special-purpose address registries, RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|block| is_in_v4(v4, *block)),
        IpAddr::V6(v6) if is_in_v6(v6, NAT64) => {
            let [.., high, low] = v6.segments();
            is_public(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into())
        }
        IpAddr::V6(v6) => {
            is_in_v6(v6, GLOBAL_V6) && !SPECIAL_V6.iter().any(|block| is_in_v6(v6, *block))
        }
    }
}

fn is_in_v4(address: Ipv4Addr, (block, length): (Ipv4Addr, u8)) -> bool {
    Ipv4Net::new_assert(block, length).contains(&address)
}

fn is_in_v6(address: Ipv6Addr, (block, length): (Ipv6Addr, u8)) -> bool {
    Ipv6Net::new_assert(block, length).contains(&address)
}

/// Whether a private network may have the address: it is not public, and not of this very machine or link, where
/// metadata services and the host's own services are.
pub fn is_private_network(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local() && v6.segments()[..2] != [0xfd00, 0xec2],
    }
}

/// Whether a name is one of a local network, whose owner answers for it: without a dot, or below a domain that
/// the internet does not have.
pub(super) fn is_local_name(name: &str) -> bool {
    const LOCAL: [&str; 14] = [
        "local",
        "localhost",
        "localdomain",
        "lan",
        "home",
        "internal",
        "intranet",
        "corp",
        "private",
        "svc",
        "test",
        "arpa",
        "docker",
        "consul",
    ];
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.rsplit_once('.') {
        None => true,
        Some((rest, "arpa")) => rest.ends_with(".home") || rest == "home",
        Some((_, last)) => LOCAL.contains(&last),
    }
}

/// Whether an answer of the name service may be believed: a public name has public addresses. Whoever serves
/// it could lead a guest to the private network otherwise.
pub fn may_stand_for(name: &str, address: IpAddr) -> bool {
    is_local_name(name) || is_public(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for text in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0X7F000001",
            "017700000001",
            "127.1",
            "127.0.1",
            "0x7f.1",
            "0177.0.0.01",
            "127.0.0.1.",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
        ] {
            let expected = Host::Address("127.0.0.1".parse().unwrap());
            assert_eq!(Host::read(text), Some(expected), "{text}");
        }
        assert_eq!(Host::read("0"), Some(Host::Address("0.0.0.0".parse().unwrap())));
        assert_eq!(Host::read("[fd00:ec2::254]").unwrap().to_string(), "[fd00:ec2::254]");
    }

    #[test]
    fn a_text_that_readers_disagree_about_is_no_host() {
        for text in [
            "",
            ".",
            "4294967296",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.1",
            "08",
            "1.2.3.08",
            "[::1",
            "a:b",
        ] {
            assert_eq!(Host::read(text), None, "{text}");
        }
        for text in ["a.example", "0xg.example", "1.2.3.com", "0x", "deadbeef"] {
            assert!(Host::read(text).is_some(), "{text}");
        }
        assert_eq!(Host::read("API.Example.com."), Some(Host::Name("api.example.com".into())));
    }

    #[test]
    fn no_special_purpose_address_is_public() {
        for text in [
            "0.1.2.3",
            "10.1.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.9.9.9",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:0:4136::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "9.9.9.9",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "64:ff9b::808:808",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
