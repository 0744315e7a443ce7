//! The HTTP clients: what they trust, where they follow, how much of a body is read.
//!
//! Each is made when it is first needed. To read the system's certificates takes longer than to
//! pull a small image from a registry on loopback, which needs none.

use std::sync::OnceLock;
use std::time::Duration;

use mote_spec::{Host, ImageRef, is_private_network, is_public};
use reqwest::{Certificate, Client, ClientBuilder, Response};

use crate::endpoint::{Endpoint, TlsVerify, is_this_machine};
use crate::error::RegistryError;
use crate::realm::{PublicNames, Reach};
use crate::settings::Settings;

/// How often a request is sent on.
const MOST_REDIRECTS: usize = 5;

pub(crate) struct Clients {
    settings: Settings,
    authorities: Vec<Certificate>,
    plain: OnceLock<Client>,
    verified: OnceLock<Client>,
    unverified: OnceLock<Client>,
    tokens: OnceLock<Client>,
    public_tokens: OnceLock<Client>,
}

impl Clients {
    pub(crate) fn new(settings: &Settings) -> Result<Clients, RegistryError> {
        // Another part of the process may have chosen a provider; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut authorities = Vec::new();
        for path in &settings.authorities {
            let bad = || RegistryError::Authority { path: path.clone() };
            let unread = |source| RegistryError::ConfigFile { path: path.clone(), source };
            let pem = std::fs::read(path).map_err(unread)?;
            authorities.extend(Certificate::from_pem_bundle(&pem).map_err(|_| bad())?);
        }
        Ok(Clients {
            settings: settings.clone(),
            authorities,
            plain: OnceLock::new(),
            verified: OnceLock::new(),
            unverified: OnceLock::new(),
            tokens: OnceLock::new(),
            public_tokens: OnceLock::new(),
        })
    }

    /// The client for an endpoint. A plain one trusts no certificate and stops where it is sent to
    /// an encrypted place, so that the caller takes `encrypted` for it.
    pub(crate) fn of(&self, endpoint: &Endpoint) -> Result<&Client, RegistryError> {
        match endpoint.is_plain() {
            true => made(&self.plain, || {
                Ok(self.builder()?.tls_certs_only([]).redirect(redirects(Plain::Only)))
            }),
            false => self.encrypted(endpoint.verify),
        }
    }

    pub(crate) fn encrypted(&self, verify: TlsVerify) -> Result<&Client, RegistryError> {
        match verify {
            TlsVerify::Always => {
                made(&self.verified, || Ok(self.trusting()?.redirect(redirects(Plain::Allowed))))
            }
            TlsVerify::Never => made(&self.unverified, || {
                let builder = self.trusting()?.tls_danger_accept_invalid_certs(true);
                Ok(builder.redirect(redirects(Plain::Allowed)))
            }),
        }
    }

    /// The client that asks for tokens; it follows no redirect: what carries a password is not sent on. One that
    /// may reach public addresses alone decides on those that it connects to.
    pub(crate) fn tokens(&self, reach: Reach) -> Result<&Client, RegistryError> {
        let builder = || {
            let unverified = self.settings.verify == TlsVerify::Never;
            let builder = self.trusting()?.tls_danger_accept_invalid_certs(unverified);
            Ok(builder.redirect(reqwest::redirect::Policy::none()))
        };
        match reach {
            Reach::Any => made(&self.tokens, builder),
            Reach::Public => made(&self.public_tokens, || {
                let proxies = self.settings.proxy.hosts();
                Ok(builder()?.dns_resolver(std::sync::Arc::new(PublicNames { proxies })))
            }),
        }
    }

    fn trusting(&self) -> Result<ClientBuilder, RegistryError> {
        Ok(self.builder()?.tls_certs_merge(self.authorities.clone()))
    }

    fn builder(&self) -> Result<ClientBuilder, RegistryError> {
        let settings = &self.settings;
        let mut builder = Client::builder()
            .user_agent(concat!("mote/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(15))
            .read_timeout(settings.stall)
            .pool_max_idle_per_host(4)
            .no_proxy();
        // What is on this machine is reached on this machine, as with every other client.
        let given = settings.proxy.no_proxy.as_deref().unwrap_or_default();
        let without = reqwest::NoProxy::from_string(&format!("{given},localhost,127.0.0.0/8,::1"));
        if let Some(address) = &settings.proxy.http {
            let proxy = reqwest::Proxy::http(address).map_err(RegistryError::Setup)?;
            builder = builder.proxy(proxy.no_proxy(without.clone()));
        }
        if let Some(address) = &settings.proxy.https {
            let proxy = reqwest::Proxy::https(address).map_err(RegistryError::Setup)?;
            builder = builder.proxy(proxy.no_proxy(without));
        }
        Ok(builder)
    }
}

/// Makes a client once; two threads may both make one, and one of the two is kept.
fn made(
    cell: &OnceLock<Client>,
    builder: impl FnOnce() -> Result<ClientBuilder, RegistryError>,
) -> Result<&Client, RegistryError> {
    if cell.get().is_none() {
        let _ = cell.set(builder()?.build().map_err(RegistryError::Setup)?);
    }
    Ok(cell.get().expect("the client was just set"))
}

/// Whether a client stays where nothing is encrypted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Only,
    Allowed,
}

/// Follows a registry to its storage, never from TLS to plain HTTP; the HTTP client drops the
/// `Authorization` header wherever host or port change.
fn redirects(plain: Plain) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        let was_encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        let is_encrypted = attempt.url().scheme() == "https";
        if attempt.previous().len() > MOST_REDIRECTS {
            attempt.error("too many redirects")
        } else if leads_inside(&attempt) {
            attempt.error("a redirect to an address of this machine or link")
        } else if was_encrypted && !is_encrypted {
            attempt.error("a redirect from https to plain http")
        } else if plain == Plain::Only && is_encrypted {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}

/// Whether a registry that is elsewhere sends to an address that only this machine, or its cloud's metadata
/// service, answers at.
fn leads_inside(attempt: &reqwest::redirect::Attempt<'_>) -> bool {
    let host = |url: &reqwest::Url| url.host_str().and_then(Host::read);
    let from_here =
        attempt.previous().first().and_then(host).is_some_and(|host| is_this_machine(&host));
    let Some(to) = host(attempt.url()) else { return true };
    let to_inside = match &to {
        Host::Address(address) => !is_public(*address) && !is_private_network(*address),
        Host::Name(_) => is_this_machine(&to),
    };
    to_inside && !(from_here && is_this_machine(&to))
}

/// How long a manifest, a configuration or a token may take: a server that sends a byte now and then keeps nobody.
pub(crate) const SMALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a body was not read.
pub(crate) enum ReadProblem {
    TooLarge(u64),
    TooSlow,
    Transport(reqwest::Error),
}

impl ReadProblem {
    pub(crate) fn named(self, what: &str, image: &ImageRef) -> RegistryError {
        match self {
            ReadProblem::TooLarge(most) => RegistryError::TooLarge { what: what.to_owned(), most },
            ReadProblem::TooSlow => {
                RegistryError::TooSlow { registry: image.registry().to_owned() }
            }
            ReadProblem::Transport(source) => {
                RegistryError::Transport { registry: image.registry().to_owned(), source }
            }
        }
    }
}

/// Reads a body of at most `most` bytes, which has to come within [`SMALL_TIMEOUT`].
pub(crate) async fn read_capped(response: Response, most: u64) -> Result<Vec<u8>, ReadProblem> {
    let read = tokio::time::timeout(SMALL_TIMEOUT, read_all(response, most)).await;
    read.unwrap_or(Err(ReadProblem::TooSlow))
}

async fn read_all(mut response: Response, most: u64) -> Result<Vec<u8>, ReadProblem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadProblem::Transport)? {
        if (bytes.len() + chunk.len()) as u64 > most {
            return Err(ReadProblem::TooLarge(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
