//! Answers a registry's challenge: reads it, checks whom a credential would go to, fetches a token.
//!
//! A realm is where the *registry* says that our password should be sent, so it is checked before
//! anything is sent (CVE-2020-15157 and its many successors).

use std::net::IpAddr;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::client::RegistryError;
use super::credentials::Credential;
use super::endpoint::{self, Endpoint};

/// What a registry wants (RFC 9110, section 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads the first challenge of a kind that mote can answer; bearer before basic.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
        let values =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut basic = None;
        for value in values {
            let (scheme, parameters) = value.split_once(' ').unwrap_or((value, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let get = |name| parameter(parameters, name);
                let realm = get("realm")?;
                return Some(Challenge::Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
        basic
    }
}

/// One `name="value"` of a challenge; commas inside quotes belong to the value.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if name.trim().trim_start_matches(',').trim().eq_ignore_ascii_case(wanted) {
            return Some(value.to_owned());
        }
        rest = next.trim_start_matches([',', ' ']);
    }
    None
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
    #[error("it is an address of this machine or network, and the registry is not there")]
    Inside,
}

/// Checks that a credential may go where the registry points.
pub(crate) fn check_realm(registry: &Endpoint, realm: &str) -> Result<Url, RealmError> {
    let url = Url::parse(realm).map_err(|_| RealmError::Address)?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err(RealmError::Address);
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(RealmError::UserInfo);
    }
    if url.scheme() == "http" && !registry.is_plain() {
        return Err(RealmError::Plain);
    }
    let same_host = host.trim_matches(['[', ']']) == endpoint::host_of(registry.authority());
    let registry_is_here = endpoint::is_loopback(registry.authority());
    if is_inside(host) && !same_host && !(registry_is_here && endpoint::is_loopback(host)) {
        return Err(RealmError::Inside);
    }
    Ok(url)
}

/// Whether a host is an address that only this machine or its cloud provider answers at.
fn is_inside(host: &str) -> bool {
    if endpoint::is_loopback(host) {
        return true;
    }
    match host.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => {
            v4.is_link_local() || v4.is_unspecified() || v4.octets() == [100, 100, 100, 200]
        }
        Ok(IpAddr::V6(v6)) => {
            v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.segments()[..2] == [0xfd00, 0xec2]
        }
        Err(_) => false,
    }
}

/// A token as the endpoint returns it (distribution, "Token Authentication Specification").
#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
}

/// Answers a challenge, and returns the value of the `Authorization` header.
pub(crate) async fn answer(
    http: &reqwest::Client,
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
            let url = check_realm(endpoint, realm).map_err(|source| RegistryError::Realm {
                registry: authority(),
                realm: realm.clone(),
                source,
            })?;
            let scope = asked.as_deref().filter(|asked| !asked.is_empty()).unwrap_or(scope);
            let request = token_request(http, url, service.as_deref(), scope, credential);
            token(request, authority()).await
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
    let response = request.send().await.map_err(failed)?;
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
    fn a_realm_that_could_steal_a_credential_is_refused() {
        let remote = endpoint("https://r.example.com");
        assert!(check_realm(&remote, "https://auth.example.org/token").is_ok());
        let table = [
            ("http://auth.example.org/token", RealmError::Plain),
            ("https://user@auth.example.org/", RealmError::UserInfo),
            ("https://169.254.169.254/latest", RealmError::Inside),
            ("https://[fd00:ec2::254]/", RealmError::Inside),
            ("https://[::ffff:169.254.169.254]/", RealmError::Inside),
            ("https://100.100.100.200/", RealmError::Inside),
            ("https://127.0.0.1/", RealmError::Inside),
            ("https://localhost/", RealmError::Inside),
            ("https://[::1]/", RealmError::Inside),
            ("https://0.0.0.0/", RealmError::Inside),
            ("https://2130706433/", RealmError::Inside),
            ("file:///etc/passwd", RealmError::Address),
            ("/token", RealmError::Address),
        ];
        for (realm, expected) in table {
            assert_eq!(check_realm(&remote, realm), Err(expected), "{realm}");
        }
        let local = endpoint("http://127.0.0.1:5000");
        assert!(check_realm(&local, "http://127.0.0.1:5001/token").is_ok());
        assert_eq!(check_realm(&local, "http://169.254.169.254/"), Err(RealmError::Inside));
    }
}
