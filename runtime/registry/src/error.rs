//! Why a registry did not give what was asked.

use std::path::PathBuf;

use mote_spec::Digest;
use reqwest::StatusCode;

use crate::credentials::CredentialError;
use crate::realm::RealmError;
use crate::settings::MIN_RATE;

/// Why a registry did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("registry has no {what}")]
    NotFound { what: String },
    #[error("registry {registry} refuses this access")]
    Unauthorized { registry: String },
    #[error("registry {registry} answers {status}")]
    Status { registry: String, status: StatusCode },
    #[error("registry {registry} answers 429: too many requests")]
    RateLimited { registry: String },
    #[error("registry {registry} sends less than {MIN_RATE} bytes a second")]
    TooSlow { registry: String },
    #[error("cannot reach registry {registry}")]
    Transport { registry: String, source: reqwest::Error },
    #[error("registry {registry} wants the credential sent to {realm}, which is refused")]
    Realm { registry: String, realm: String, source: RealmError },
    #[error("registry {registry} has no token for us")]
    Token { registry: String, source: reqwest::Error },
    #[error("registry {registry} answers the request for a token with something else")]
    TokenReply { registry: String },
    #[error("{what} is larger than {most} bytes")]
    TooLarge { what: String, most: u64 },
    #[error("{what} should be {expected} and is {found}")]
    Mismatch { what: String, expected: Digest, found: Digest },
    #[error("registry {registry} sends another part of {what} than was asked")]
    BadRange { registry: String, what: String },
    #[error("cannot read {path}")]
    ConfigFile { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a hosts.toml that mote understands")]
    Hosts { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{path} is not a PEM file of certificates")]
    Authority { path: PathBuf },
    #[error("cannot set up TLS and proxies")]
    Setup(#[source] reqwest::Error),
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// The error that an answer with this status is.
pub(crate) fn status_error(status: StatusCode, registry: &str) -> RegistryError {
    let registry = registry.to_owned();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            RegistryError::Unauthorized { registry }
        }
        StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { registry },
        status => RegistryError::Status { registry, status },
    }
}
