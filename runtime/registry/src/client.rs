//! Sends requests to a registry: which endpoint, which token, how often, and how much is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mote_image::manifest::{Descriptor, LARGEST_MANIFEST};
use mote_image::{hash, media};
use mote_spec::{Algorithm, Digest, ImageRef};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use crate::auth;
use crate::challenge::Challenge;
use crate::endpoint::{Endpoint, endpoints};
use crate::error::{RegistryError, status_error};
use crate::http::{Clients, read_capped};
use crate::mirrors::mirrors;
use crate::retry::{self, Budget};
use crate::settings::{MIN_RATE, Settings};

/// A client for all registries; keeps connections and tokens while it lives.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    clients: Clients,
    /// `Authorization` by endpoint and repository.
    authorizations: Mutex<HashMap<(String, String), String>>,
    /// The endpoint that answered, by registry: the others are not asked again.
    answered: Mutex<HashMap<String, Endpoint>>,
}

/// A manifest or index, verified.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    pub media_type: String,
}

impl Fetched {
    /// What points at it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
    }
}

/// A blob on its way.
pub struct BlobStream {
    response: Response,
    registry: String,
    /// Where in the blob the stream starts.
    pub start: u64,
    rate: Rate,
}

impl BlobStream {
    fn new(response: Response, registry: String, start: u64, stall: Duration) -> BlobStream {
        BlobStream { response, registry, start, rate: Rate::new(stall, Instant::now()) }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, RegistryError> {
        let registry = || self.registry.clone();
        let chunk = self
            .response
            .chunk()
            .await
            .map_err(|source| RegistryError::Transport { registry: registry(), source })?;
        let count = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        match self.rate.is_kept(count, Instant::now()) || chunk.is_none() {
            true => Ok(chunk),
            false => Err(RegistryError::TooSlow { registry: registry() }),
        }
    }
}

/// How fast a download is, from one window to the next.
struct Rate {
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Rate {
    fn new(window: Duration, now: Instant) -> Rate {
        Rate { window, since: now, bytes: 0 }
    }

    /// Counts bytes; false at the end of a window that brought fewer than [`MIN_RATE`] asks for.
    fn is_kept(&mut self, count: u64, now: Instant) -> bool {
        self.bytes += count;
        let elapsed = now.duration_since(self.since);
        if elapsed < self.window {
            return true;
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.since = now;
        bytes as f64 >= MIN_RATE as f64 * elapsed.as_secs_f64()
    }
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// Fails if a certificate authority or a proxy cannot be read.
    pub fn new(settings: Settings) -> Result<Client, RegistryError> {
        Ok(Client {
            inner: Arc::new(Inner {
                clients: Clients::new(&settings)?,
                settings,
                authorizations: Mutex::default(),
                answered: Mutex::default(),
            }),
        })
    }

    /// Fetches the manifest or index of a reference, and verifies it where a digest is known.
    pub async fn manifest(&self, image: &ImageRef) -> Result<Fetched, RegistryError> {
        let key = image.manifest_key();
        let path = format!("manifests/{key}");
        let response = self
            .get(image, &path, image.digest().is_some(), ACCEPT, media::ACCEPT_MANIFESTS)
            .await?;
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let media_type =
            header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        let media_type = media_type.trim().to_owned();
        let claimed: Option<Digest> =
            header("docker-content-digest").and_then(|text| text.parse().ok());
        let bytes = read_capped(response, LARGEST_MANIFEST)
            .await
            .map_err(|problem| problem.named(&format!("manifest of {image}"), image))?;
        for expected in image.digest().into_iter().chain(&claimed) {
            let found = hash(expected.algorithm(), &bytes);
            if found != *expected {
                let what = format!("manifest of {image}");
                return Err(RegistryError::Mismatch { what, expected: expected.clone(), found });
            }
        }
        let digest = image.digest().cloned().unwrap_or_else(|| hash(Algorithm::Sha256, &bytes));
        Ok(Fetched { bytes, digest, media_type })
    }

    /// Fetches a small blob whole, verified.
    pub async fn small_blob(
        &self,
        image: &ImageRef,
        blob: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let what = format!("blob {} of {image}", blob.digest);
        if blob.size > LARGEST_MANIFEST {
            return Err(RegistryError::TooLarge { what, most: LARGEST_MANIFEST });
        }
        let path = format!("blobs/{}", blob.digest);
        let response = self.get(image, &path, true, ACCEPT_ENCODING, "identity").await?;
        let bytes = read_capped(response, blob.size)
            .await
            .map_err(|problem| problem.named(&what, image))?;
        let found = hash(blob.digest.algorithm(), &bytes);
        match found == blob.digest {
            true => Ok(bytes),
            false => Err(RegistryError::Mismatch { what, expected: blob.digest.clone(), found }),
        }
    }

    /// Starts to download a blob, from byte `from` on if the registry can.
    pub async fn blob(
        &self,
        image: &ImageRef,
        blob: &Descriptor,
        from: u64,
    ) -> Result<BlobStream, RegistryError> {
        let path = format!("blobs/{}", blob.digest);
        let registry = image.registry().to_owned();
        let stall = self.inner.settings.stall;
        if from > 0 && from < blob.size {
            let range = format!("bytes={from}-");
            let response = self.get(image, &path, true, RANGE, &range).await;
            match response {
                Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    return match starts_at(&response, from, blob.size) {
                        true => Ok(BlobStream::new(response, registry, from, stall)),
                        false => {
                            Err(RegistryError::BadRange { registry, what: blob.digest.to_string() })
                        }
                    };
                }
                // The registry ignores ranges and sends it all.
                Ok(response) => return whole(response, registry, blob, stall),
                Err(RegistryError::Status {
                    status: StatusCode::RANGE_NOT_SATISFIABLE, ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        let response = self.get(image, &path, true, ACCEPT_ENCODING, "identity").await?;
        whole(response, registry, blob, stall)
    }

    /// How long a pull may take in all.
    pub fn deadline(&self) -> Duration {
        self.inner.settings.deadline
    }

    /// Checks that the registry accepts the credential, for `login`.
    pub async fn check_login(&self, registry: &str) -> Result<(), RegistryError> {
        let mut list = self.endpoints(registry, false)?;
        list.retain(|endpoint| endpoint.mirrors.is_none());
        let last = list.len() - 1;
        for (at, endpoint) in list.iter().enumerate() {
            let url = format!("{}/v2/", endpoint.base);
            let header = (ACCEPT, "application/json");
            match self.send(endpoint, (registry, ""), &url, header, at < last).await {
                Err(error) if at < last && is_elsewhere(&error) => {}
                other => return other.map(drop),
            }
        }
        Err(RegistryError::Unauthorized { registry: registry.to_owned() })
    }

    /// Gets something of a repository from the first endpoint that has it.
    async fn get(
        &self,
        image: &ImageRef,
        path: &str,
        by_digest: bool,
        header: reqwest::header::HeaderName,
        value: &str,
    ) -> Result<Response, RegistryError> {
        let list = self.endpoints(image.registry(), by_digest)?;
        let last = list.len() - 1;
        for (at, endpoint) in list.iter().enumerate() {
            let mut url = format!("{}/v2/{}/{path}", endpoint.base, image.repository());
            if let Some(registry) = &endpoint.mirrors {
                url.push_str(&format!("?ns={registry}"));
            }
            let place = (image.registry(), image.repository());
            match self.send(endpoint, place, &url, (header.clone(), value), at < last).await {
                Err(error) if at < last && (endpoint.mirrors.is_some() || is_elsewhere(&error)) => {
                }
                Err(RegistryError::Status { status: StatusCode::NOT_FOUND, .. }) => {
                    return Err(RegistryError::NotFound { what: missing(image, path) });
                }
                Err(error) => return Err(error),
                Ok(response) => {
                    self.remember_endpoint(image.registry(), endpoint);
                    return Ok(response);
                }
            }
        }
        Err(RegistryError::NotFound { what: missing(image, path) })
    }

    fn endpoints(&self, registry: &str, by_digest: bool) -> Result<Vec<Endpoint>, RegistryError> {
        let settings = &self.inner.settings;
        let answered = self
            .inner
            .answered
            .lock()
            .expect("no holder of this lock panics")
            .get(registry)
            .cloned();
        let direct = match answered {
            Some(endpoint) => vec![endpoint],
            None => endpoints(registry, settings.verify, &settings.plain_http),
        };
        let Some(mirrors) = mirrors(&settings.mirrors, registry)? else { return Ok(direct) };
        let mut list = mirrors.endpoints;
        list.retain(|endpoint| endpoint.resolves || by_digest);
        match mirrors.server {
            Some(server) => list.push(server),
            None => list.extend(direct),
        }
        Ok(list)
    }

    fn remember_endpoint(&self, registry: &str, endpoint: &Endpoint) {
        if endpoint.mirrors.is_none() {
            let mut answered = self.inner.answered.lock().expect("no holder of this lock panics");
            answered.insert(registry.to_owned(), endpoint.clone());
        }
    }

    /// Sends one request until it succeeds, fails for good, or the budget is spent.
    async fn send(
        &self,
        endpoint: &Endpoint,
        (registry, repository): (&str, &str),
        url: &str,
        (header, value): (reqwest::header::HeaderName, &str),
        has_alternative: bool,
    ) -> Result<Response, RegistryError> {
        let budget = Budget::default();
        let key = (endpoint.base.clone(), repository.to_owned());
        let mut http = self.inner.clients.of(endpoint)?;
        let (mut attempt, mut answered) = (0, false);
        loop {
            let mut request = http.request(Method::GET, url).header(&header, value);
            if let Some(authorization) = self.authorization(&key) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let result = request.send().await;
            let (error, asked) = match result {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !answered => {
                    answered = true;
                    let challenge = Challenge::read(response.headers());
                    self.authorize(endpoint, (registry, repository), challenge, key.clone())
                        .await?;
                    continue;
                }
                // A plain registry sends to encrypted storage: once more, with certificates.
                Ok(response) if response.status().is_redirection() && endpoint.is_plain() => {
                    let encrypted = self.inner.clients.encrypted(endpoint.verify)?;
                    if std::ptr::eq(http, encrypted) {
                        return Err(status_error(response.status(), registry));
                    }
                    http = encrypted;
                    continue;
                }
                Ok(response) => {
                    let status = response.status();
                    let error = status_error(status, registry);
                    if !retry::is_passing(status) {
                        return Err(error);
                    }
                    (error, retry::asked_wait(response.headers()))
                }
                Err(source) => {
                    let hopeless = source.is_redirect() || source.is_builder();
                    let error = RegistryError::Transport { registry: registry.to_owned(), source };
                    if has_alternative || hopeless {
                        return Err(error);
                    }
                    (error, None)
                }
            };
            attempt += 1;
            match budget.wait(attempt, asked, retry::jitter()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    fn authorization(&self, key: &(String, String)) -> Option<String> {
        self.inner.authorizations.lock().expect("no holder of this lock panics").get(key).cloned()
    }

    async fn authorize(
        &self,
        endpoint: &Endpoint,
        (registry, repository): (&str, &str),
        challenge: Option<Challenge>,
        key: (String, String),
    ) -> Result<(), RegistryError> {
        let unauthorized = || RegistryError::Unauthorized { registry: registry.to_owned() };
        let challenge = challenge.ok_or_else(unauthorized)?;
        // A mirror is another host than the one that the credential is for.
        let owner = if endpoint.mirrors.is_some() { endpoint.authority() } else { registry };
        let mut credentials = self.inner.settings.credentials.clone();
        if endpoint.mirrors.is_some() {
            // What was given for the registry is not for whoever mirrors it.
            credentials.explicit = None;
        }
        let credential = credentials.find(owner, repository).await?;
        let scope = if repository.is_empty() {
            String::new()
        } else {
            format!("repository:{repository}:pull")
        };
        let header = auth::answer(
            (&self.inner.clients, &self.inner.settings.token_servers),
            endpoint,
            &challenge,
            &scope,
            credential.as_ref(),
        )
        .await?;
        self.inner
            .authorizations
            .lock()
            .expect("no holder of this lock panics")
            .insert(key, header);
        Ok(())
    }
}

fn missing(image: &ImageRef, path: &str) -> String {
    match path.strip_prefix("blobs/") {
        Some(digest) => format!("blob {digest} of {image}"),
        None => format!("image {image}"),
    }
}

/// Whether the failure may only mean that the registry speaks another scheme.
fn is_elsewhere(error: &RegistryError) -> bool {
    match error {
        RegistryError::Transport { source, .. } => !source.is_redirect(),
        RegistryError::Status { status, .. } => *status == StatusCode::BAD_REQUEST,
        _ => false,
    }
}

/// Refuses, before a byte is read, a blob that announces more than its descriptor promises.
fn whole(
    response: Response,
    registry: String,
    blob: &Descriptor,
    stall: Duration,
) -> Result<BlobStream, RegistryError> {
    if response.content_length().is_some_and(|length| length > blob.size) {
        return Err(RegistryError::TooLarge {
            what: format!("blob {}", blob.digest),
            most: blob.size,
        });
    }
    Ok(BlobStream::new(response, registry, 0, stall))
}

/// Whether a partial response is the rest of the blob from `from` on (RFC 9110, section 14.4).
fn starts_at(response: &Response, from: u64, size: u64) -> bool {
    let value = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some((range, total)) =
        value.and_then(|value| value.strip_prefix("bytes ")?.split_once('/'))
    else {
        return false;
    };
    let start = range.split('-').next().and_then(|start| start.parse().ok());
    start == Some(from) && (total == "*" || total.parse() == Ok(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_drips_is_found_out_at_the_end_of_a_window() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut drip = Rate::new(30 * second, start);
        assert!(drip.is_kept(1, start + 20 * second));
        assert!(!drip.is_kept(1, start + 40 * second));
        let mut slow = Rate::new(30 * second, start);
        assert!(slow.is_kept(40 * MIN_RATE, start + 31 * second));
        assert!(!slow.is_kept(1, start + 62 * second), "what came before does not count");
    }
}
