//! Checks where a registry wants a credential sent.
//!
//! A realm is where the *registry* says that our password should be sent, so it is checked before anything is
//! sent (CVE-2020-15157 and its many successors): its text here, and the addresses of its name when they are
//! connected to ([`PublicNames`]).

use mote_spec::{Host, is_public};
use reqwest::Url;

use crate::endpoint::{self, Endpoint};

/// Why a realm gets nothing from us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RealmError {
    #[error("it is not an absolute http or https address")]
    Address,
    #[error("it carries a user name")]
    UserInfo,
    #[error("it is without TLS, though the registry is not")]
    Plain,
    #[error(
        "{0} is not of the public internet, and not the registry itself; if it is trusted, list its host under [registries] token_servers"
    )]
    Inside(String),
}

/// Addresses that a realm may turn out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Any: it is the registry itself, or trusted by the configuration.
    Any,
    /// Those of the public internet.
    Public,
}

/// Checks that a credential may go where the registry points.
pub(crate) fn check_realm(
    registry: &Endpoint,
    realm: &str,
    trusted: &[String],
) -> Result<(Url, Reach), RealmError> {
    let url = Url::parse(realm).map_err(|_| RealmError::Address)?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err(RealmError::Address);
    };
    let host = Host::read(host).ok_or(RealmError::Address)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(RealmError::UserInfo);
    }
    if url.scheme() == "http" && !registry.is_plain() {
        return Err(RealmError::Plain);
    }
    let is_own = endpoint::host(registry.authority()).as_ref() == Some(&host);
    let is_trusted = trusted.iter().any(|known| Host::read(known).as_ref() == Some(&host));
    let both_here = endpoint::is_loopback(registry.authority()) && endpoint::is_this_machine(&host);
    if is_own || is_trusted || both_here {
        return Ok((url, Reach::Any));
    }
    match &host {
        Host::Address(address) if !is_public(*address) => {
            Err(RealmError::Inside(address.to_string()))
        }
        Host::Name(name) if host.is_local() => Err(RealmError::Inside(name.clone())),
        Host::Address(_) | Host::Name(_) => Ok((url, Reach::Public)),
    }
}

/// Looks names up, and gives public addresses alone, but for the proxies that the operator named: what these connect
/// to is theirs to decide.
pub(crate) struct PublicNames {
    pub(crate) proxies: Vec<String>,
}

impl reqwest::dns::Resolve for PublicNames {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let is_proxy = self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(name.as_str()));
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            match found.iter().find(|address| !is_proxy && !is_public(address.ip())) {
                // A name that is both is made to be: its next answer may be the other one.
                Some(address) => {
                    let said = format!("{} ({})", name.as_str(), address.ip());
                    Err(RealmError::Inside(said).into())
                }
                None => Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs),
            }
        })
    }
}

/// The refusal of an address behind an error of a request.
pub(crate) fn refused_address(error: &reqwest::Error) -> Option<RealmError> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<RealmError>() {
            return Some(refused.clone());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str) -> Endpoint {
        Endpoint { base: base.into(), verify: Default::default(), mirrors: None, resolves: true }
    }

    #[test]
    fn a_realm_that_could_steal_a_credential_is_refused() {
        let remote = endpoint("https://r.example.com");
        let check = |registry: &Endpoint, realm: &str| check_realm(registry, realm, &[]);
        assert_eq!(check(&remote, "https://auth.example.org/token").unwrap().1, Reach::Public);
        assert_eq!(check(&remote, "https://r.example.com/token").unwrap().1, Reach::Any);
        let table = [
            ("http://auth.example.org/token", RealmError::Plain),
            ("https://user@auth.example.org/", RealmError::UserInfo),
            ("file:///etc/passwd", RealmError::Address),
            ("/token", RealmError::Address),
        ];
        for (realm, expected) in table {
            assert_eq!(check(&remote, realm), Err(expected), "{realm}");
        }
        for realm in [
            "https://169.254.169.254/latest",
            "https://[fd00:ec2::254]/",
            "https://[::ffff:169.254.169.254]/",
            "https://100.100.100.200/",
            "https://127.0.0.1/",
            "https://localhost/",
            "https://[::1]/",
            "https://0.0.0.0/",
            "https://2130706433/",
            "https://10.0.0.1/token",
            "https://192.168.1.1/token",
            "https://172.16.0.1/token",
            "https://auth.lan/token",
            "https://auth/token",
        ] {
            assert!(matches!(check(&remote, realm), Err(RealmError::Inside(_))), "{realm}");
        }
        let local = endpoint("http://127.0.0.1:5000");
        assert!(check(&local, "http://127.0.0.1:5001/token").is_ok());
        assert!(matches!(check(&local, "http://169.254.169.254/"), Err(RealmError::Inside(_))));
        assert!(matches!(check(&local, "http://10.0.0.1/"), Err(RealmError::Inside(_))));
    }

    #[test]
    fn a_private_token_server_is_reached_by_the_operators_word() {
        let registry = endpoint("https://10.0.0.5");
        let trusted = ["auth.lan".to_owned(), "10.0.0.6".to_owned()];
        for realm in ["https://auth.lan/token", "https://10.0.0.6:5001/token"] {
            assert_eq!(check_realm(&registry, realm, &trusted).unwrap().1, Reach::Any, "{realm}");
            assert!(check_realm(&registry, realm, &[]).is_err(), "{realm}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_given_no_address() {
        use reqwest::dns::Resolve;
        let names = PublicNames { proxies: Vec::new() };
        let refused = names.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(refused.downcast_ref::<RealmError>().is_some(), "{refused}");
    }

    #[tokio::test]
    async fn a_proxy_may_be_in_the_private_network() {
        use reqwest::dns::Resolve;
        let names = PublicNames { proxies: vec!["localhost".to_owned()] };
        assert!(names.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
