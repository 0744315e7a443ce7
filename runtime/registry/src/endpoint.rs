//! Decides at which addresses a registry is sought, and whether they are trusted.

use mote_spec::Host;

/// Whether a registry's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVerify {
    #[default]
    Always,
    /// Certificates are not checked, and plain HTTP is tried after HTTPS: `--tls-verify=false`.
    Never,
}

/// One place where a registry's API may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host and port, and a path prefix for mirrors that have one; no trailing slash.
    pub base: String,
    pub verify: TlsVerify,
    /// The registry that a mirror stands for, sent as `ns`.
    pub mirrors: Option<String>,
    /// Whether tags may be resolved here; a mirror may be trusted for content only.
    pub resolves: bool,
}

impl Endpoint {
    fn direct(scheme: &str, registry: &str, verify: TlsVerify) -> Endpoint {
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        Endpoint { base: format!("{scheme}://{host}"), verify, mirrors: None, resolves: true }
    }

    /// Whether requests leave this machine unencrypted or stay on it.
    pub fn is_plain(&self) -> bool {
        self.base.starts_with("http://")
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        let rest = self.base.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}

/// The places to try for a registry, in order. `plain` are registries that the configuration
/// allows to be without TLS.
pub fn endpoints(registry: &str, verify: TlsVerify, plain: &[String]) -> Vec<Endpoint> {
    let direct = |scheme| Endpoint::direct(scheme, registry, verify);
    match verify {
        TlsVerify::Never => vec![direct("https"), direct("http")],
        TlsVerify::Always if is_loopback(registry) => vec![direct("http"), direct("https")],
        TlsVerify::Always if plain.iter().any(|name| name == registry) => {
            vec![direct("https"), direct("http")]
        }
        TlsVerify::Always => vec![direct("https")],
    }
}

/// Whether an authority is this machine.
pub(crate) fn is_loopback(authority: &str) -> bool {
    host(authority).is_some_and(|host| is_this_machine(&host))
}

/// Whether a host is this machine.
pub(crate) fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Address(address) => address.is_loopback(),
        Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// The host of an authority, without its port.
pub(crate) fn host(authority: &str) -> Option<Host> {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    Host::read(&authority[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(registry: &str, verify: TlsVerify, plain: &[&str]) -> Vec<String> {
        let plain: Vec<String> = plain.iter().map(|name| (*name).to_owned()).collect();
        endpoints(registry, verify, &plain).into_iter().map(|endpoint| endpoint.base).collect()
    }

    #[test]
    fn plain_http_is_only_for_loopback_or_by_the_operators_word() {
        let strict = TlsVerify::Always;
        assert_eq!(bases("ghcr.io", strict, &[]), ["https://ghcr.io"]);
        assert_eq!(bases("docker.io", strict, &[]), ["https://registry-1.docker.io"]);
        assert_eq!(bases("127.0.0.1:5000", strict, &[])[0], "http://127.0.0.1:5000");
        assert_eq!(bases("[::1]:5000", strict, &[])[0], "http://[::1]:5000");
        assert_eq!(bases("10.0.0.1:5000", strict, &[]), ["https://10.0.0.1:5000"]);
        assert_eq!(bases("127.0.0.1.evil.com", strict, &[]), ["https://127.0.0.1.evil.com"]);
        assert_eq!(bases("r.lan", strict, &["r.lan"]), ["https://r.lan", "http://r.lan"]);
        assert_eq!(bases("r.lan", TlsVerify::Never, &[]), ["https://r.lan", "http://r.lan"]);
    }
}
