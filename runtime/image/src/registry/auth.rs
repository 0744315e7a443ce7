//! Answers a registry's challenge: reads it, checks whom a credential would go to, fetches a token.
//!
//! A realm is where the *registry* says that our password should be sent, so it is checked before
//! anything is sent (CVE-2020-15157 and its many successors).

use mote_spec::{Host, is_public};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::client::RegistryError;
use super::credentials::Credential;
use super::endpoint::{self, Endpoint};
use super::http::{Clients, SMALL_TIMEOUT};

/// What a registry wants (RFC 9110, section 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads the first challenge of a kind that mote can answer; bearer before basic. Challenges may be in
    /// fields of their own, or in one (RFC 9110, section 11.6.1).
    pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        let all: Vec<Offer> =
            values.filter_map(|value| value.to_str().ok()).flat_map(offers).collect();
        let bearer = all.iter().filter(|offer| offer.is("bearer")).find_map(|offer| {
            Some(Challenge::Bearer {
                realm: offer.get("realm")?,
                service: offer.get("service"),
                scope: offer.get("scope"),
            })
        });
        let basic = || all.iter().find(|offer| offer.is("basic")).map(|_| Challenge::Basic);
        bearer.or_else(basic)
    }
}

/// One scheme that a registry offers, and its parameters.
struct Offer<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Offer<'_> {
    fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

/// The challenges of one field: words that `=` follows are parameters of the scheme before them.
fn offers(mut rest: &str) -> Vec<Offer<'_>> {
    let mut offers: Vec<Offer> = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find([',', ' ', '\t', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            return offers;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, offers.last_mut()) {
            (Some(value), Some(offer)) => {
                let (value, next) = parameter(value.trim_start_matches([' ', '\t']));
                offer.parameters.push((word, value));
                rest = next;
            }
            // A parameter of no scheme.
            (Some(value), None) => rest = parameter(value).1,
            (None, _) => {
                offers.push(Offer { scheme: word, parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// A parameter's value, a token or quoted, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

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

/// Looks names up, and gives public addresses alone.
pub(crate) struct PublicNames;

impl reqwest::dns::Resolve for PublicNames {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            match found.iter().find(|address| !is_public(address.ip())) {
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
fn refused_address(error: &reqwest::Error) -> Option<RealmError> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<RealmError>() {
            return Some(refused.clone());
        }
        cause = error.source();
    }
    None
}

/// A token as the endpoint returns it (distribution, "Token Authentication Specification").
#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
}

/// Answers a challenge, and returns the value of the `Authorization` header.
pub(crate) async fn answer(
    (clients, trusted): (&Clients, &[String]),
    endpoint: &Endpoint,
    challenge: &Challenge,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<String, RegistryError> {
    let authority = || endpoint.authority().to_owned();
    match challenge {
        Challenge::Basic => match credential {
            Some(credential) => Ok(credential.basic()),
            None => Err(RegistryError::Unauthorized { registry: authority() }),
        },
        Challenge::Bearer { realm, service, scope: asked } => {
            let refused = |source| RegistryError::Realm {
                registry: authority(),
                realm: realm.clone(),
                source,
            };
            let (url, reach) = check_realm(endpoint, realm, trusted).map_err(refused)?;
            let http = clients.tokens(reach)?;
            let scope = asked.as_deref().filter(|asked| !asked.is_empty()).unwrap_or(scope);
            let request = token_request(http, url, service.as_deref(), scope, credential);
            match token(request, authority()).await {
                Err(RegistryError::Token { source, .. }) if refused_address(&source).is_some() => {
                    Err(refused(refused_address(&source).expect("it was there")))
                }
                other => other,
            }
        }
    }
}

/// A refresh token goes by POST (OAuth2), anything else by GET with basic authentication.
fn token_request(
    http: &reqwest::Client,
    mut url: Url,
    service: Option<&str>,
    scope: &str,
    credential: Option<&Credential>,
) -> reqwest::RequestBuilder {
    let service = service.unwrap_or_default();
    if let Some(Credential::RefreshToken(refresh)) = credential {
        let mut form = Url::parse("form:").expect("a constant address");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "mote")
            .append_pair("service", service)
            .append_pair("scope", scope)
            .append_pair("refresh_token", refresh);
        let body = form.query().unwrap_or_default().to_owned();
        return http
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
    }
    url.query_pairs_mut().append_pair("service", service).append_pair("scope", scope);
    match credential {
        Some(credential) => http.get(url).header(AUTHORIZATION, credential.basic()),
        None => http.get(url),
    }
}

async fn token(
    request: reqwest::RequestBuilder,
    registry: String,
) -> Result<String, RegistryError> {
    let failed = |source| RegistryError::Token { registry: registry.clone(), source };
    let response = request.timeout(SMALL_TIMEOUT).send().await.map_err(failed)?;
    if matches!(response.status().as_u16(), 400 | 401 | 403) {
        return Err(RegistryError::Unauthorized { registry });
    }
    let bytes = super::http::read_capped(response.error_for_status().map_err(failed)?, 1 << 20)
        .await
        .map_err(|_| RegistryError::TokenReply { registry: registry.clone() })?;
    let reply: Option<TokenReply> = serde_json::from_slice(&bytes).ok();
    let token = reply.and_then(|reply| reply.token.or(reply.access_token));
    let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
    token.map(|token| format!("Bearer {token}")).ok_or(RegistryError::TokenReply { registry })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str) -> Endpoint {
        Endpoint { base: base.into(), verify: Default::default(), mirrors: None, resolves: true }
    }

    #[test]
    fn challenges_are_read_as_they_are_written_in_the_wild() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            Challenge::read(&headers)
        };
        let bearer =
            r#"Bearer realm="https://a.io/token",service="a.io",scope="repository:x:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) =
            read(&[r#"Basic realm="x""#, bearer])
        else {
            panic!("a bearer challenge");
        };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://a.io/token", Some("a.io")));
        assert_eq!(scope.as_deref(), Some("repository:x:pull,push"));
        assert_eq!(read(&["Basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(read(&["Negotiate"]), None);
        assert_eq!(read(&["Bearer service=\"no realm\""]), None);
    }

    #[test]
    fn a_scheme_that_stands_behind_another_in_one_field_is_read() {
        let read = |value: &'static str| {
            Challenge::read(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value.parse().unwrap())]))
        };
        for value in [
            r#"Basic realm="x", Bearer realm="https://a.io/t",service="a.io""#,
            r#"Basic realm="Bearer, realm=\"x\"", bearer service = "a.io" , realm = "https://a.io/t""#,
            r#"Negotiate, Basic realm=x ,Bearer realm=https://a.io/t,service=a.io"#,
        ] {
            let bearer = Challenge::Bearer {
                realm: "https://a.io/t".into(),
                service: Some("a.io".into()),
                scope: None,
            };
            assert_eq!(read(value), Some(bearer), "{value}");
        }
        assert_eq!(read(r#"Bearer error="x", Basic realm="y""#), Some(Challenge::Basic));
        for value in ["", ",", "=", "realm=\"x\"", "Bearer realm=\"x", "===,\"\"\","] {
            let _ = read(value);
        }
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
        let refused = PublicNames.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(refused.downcast_ref::<RealmError>().is_some(), "{refused}");
    }
}
