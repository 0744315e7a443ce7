//! Answers a registry's challenge: the credential itself, or a token that is fetched for it.

use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::Credential;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::http::{Clients, SMALL_TIMEOUT, read_capped};
use crate::realm::{check_realm, refused_address};

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
    let bytes = read_capped(response.error_for_status().map_err(failed)?, 1 << 20)
        .await
        .map_err(|_| RegistryError::TokenReply { registry: registry.clone() })?;
    let reply: Option<TokenReply> = serde_json::from_slice(&bytes).ok();
    let token = reply.and_then(|reply| reply.token.or(reply.access_token));
    let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
    token.map(|token| format!("Bearer {token}")).ok_or(RegistryError::TokenReply { registry })
}
