//! The Docker Engine API, as far as it makes sense for Wasm (docker's API reference, v1.45).
//!
//! `mod` turns a request into a call of one of the files here; each of these reads its parameters,
//! asks the daemon, and shapes the answer. What has no meaning here is an error that says so.

mod answer;
mod attach;
mod containers;
mod control;
mod copy;
mod create;
mod description;
mod error;
mod events;
mod exec;
mod filters;
mod images;
mod logs;
mod pull;
mod refused;
mod stats;
mod system;
mod terminal;
mod upload;
mod view;
mod volumes;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::daemon::Daemon;
use crate::error::DaemonError;
use answer::{Answer, Reply};
use upload::Upload;

pub use create::{HEALTH_HTTP, HEALTH_ON_FAILURE, INVOKE, STOP_GRACE};

/// The newest version of the API that is spoken, and the oldest.
pub const API_VERSION: &str = "1.45";
pub(crate) const OLDEST_VERSION: &str = "1.24";

/// How long a client may take to say what it wants, or to say nothing between two requests.
const HEAD: std::time::Duration = std::time::Duration::from_secs(300);
/// How large the JSON of a request may be.
const LARGEST_JSON: usize = 4 << 20;

/// Answers the requests of one connection, until it closes.
pub async fn serve(daemon: Arc<Daemon>, stream: UnixStream) {
    // Whether the client is still there, for whoever takes the connection over.
    let Ok(peer) = rustix::io::fcntl_dupfd_cloexec(&stream, 0).map(Arc::new) else { return };
    let service = service_fn(move |request| {
        // What was begun is done, also when its client goes meanwhile.
        let work = tokio::spawn(answer(Arc::clone(&daemon), request, Arc::clone(&peer)));
        async move {
            let failed = |_| error::answer(&DaemonError::Failed("the request failed".to_owned()));
            Ok::<_, Infallible>(work.await.unwrap_or_else(failed))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        // Clients go when they like.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(daemon: Arc<Daemon>, request: Request<Incoming>, peer: Peer) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = match Call::read(daemon, request, peer).await {
        Ok(call) => route(call).await,
        Err(error) => Err(error),
    };
    let answer = answer.unwrap_or_else(|error| error::answer(&error));
    tracing::debug!(%method, path, status = answer.status().as_u16(), "answered");
    answer
}

/// A client's connection once more, to be asked whether it still stands.
pub(crate) type Peer = Arc<OwnedFd>;

/// A request, taken apart.
pub(crate) struct Call {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) request: Request<()>,
    sent: Sent,
    pub(crate) peer: Peer,
    /// The path behind the version, in its parts.
    path: Vec<String>,
    pub(crate) query: Query,
}

/// What a client sends along.
enum Sent {
    /// What describes something is read before it is answered: a client that is refused while it
    /// still writes does not read why.
    Whole(Bytes),
    /// An archive may be long.
    Archive(Incoming),
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Every value of a parameter that may be repeated.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        let same = self.0.iter().filter(|(name, _)| name == key);
        same.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Docker's clients write flags as `1`, `true` or `True`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.text(key).is_some_and(|value| matches!(value, "1" | "true" | "True" | "t" | "T"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, DaemonError> {
        let bad =
            |value: &str| DaemonError::BadRequest(format!("{key} is `{value}`, not a number"));
        self.text(key).map(|value| value.parse().map_err(|_| bad(value))).transpose()
    }
}

impl Call {
    async fn read(
        daemon: Arc<Daemon>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Result<Call, DaemonError> {
        let decode = |part: &str| {
            let whole = format!("k={}", part.replace('+', "%2B"));
            form_urlencoded::parse(whole.as_bytes()).next().map(|(_, text)| text.into_owned())
        };
        let mut path: Vec<String> = request
            .uri()
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| decode(part).unwrap_or_default())
            .collect();
        if let Some(version) = path.first().and_then(|first| first.strip_prefix('v'))
            && version.starts_with(|first: char| first.is_ascii_digit())
        {
            check_version(version)?;
            path.remove(0);
        }
        let query = request.uri().query().unwrap_or_default();
        let query = Query(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        let (head, body) = request.into_parts();
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let sent = match is_archive(&head.method, &parts) {
            true => Sent::Archive(body),
            false => Sent::Whole(whole(body).await?),
        };
        Ok(Call { daemon, request: Request::from_parts(head, ()), sent, peer, path, query })
    }

    /// What was sent, as JSON; nothing is the default.
    pub(crate) fn json<T: DeserializeOwned + Default>(&self) -> Result<T, DaemonError> {
        match &self.sent {
            Sent::Whole(bytes) => parse(bytes),
            Sent::Archive(_) => Ok(T::default()),
        }
    }

    /// What was sent, as a stream; where no archive is taken, there is none.
    pub(crate) fn archive(self) -> Result<Upload, DaemonError> {
        match self.sent {
            Sent::Archive(body) => Ok(Upload::of(body)),
            Sent::Whole(_) => Err(DaemonError::BadRequest("no archive is taken here".to_owned())),
        }
    }
}

/// Reads JSON; nothing is the default.
pub(crate) fn parse<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, DaemonError> {
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return Ok(T::default());
    }
    let bad = |error| DaemonError::BadRequest(format!("the request's JSON is not valid: {error}"));
    let mut value = serde_json::from_slice(bytes).map_err(bad)?;
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(bad)
}

fn is_archive(method: &Method, path: &[&str]) -> bool {
    matches!(
        (method, path),
        (&Method::PUT, ["containers", _, "archive"])
            | (&Method::POST, ["images", "load"] | ["build"])
    )
}

/// Clients write null for what they do not say. Docker's fields begin with a capital; keys of its
/// maps, such as paths and ports, say something by being there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| {
                !(value.is_null() && key.starts_with(|first: char| first.is_ascii_uppercase()))
            });
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn whole(body: Incoming) -> Result<Bytes, DaemonError> {
    let limited = Limited::new(body, LARGEST_JSON).collect().await;
    let bad = |error| {
        let most = LARGEST_JSON >> 20;
        DaemonError::BadRequest(format!(
            "the request's body cannot be read, or has more than {most} MiB: {error}"
        ))
    };
    Ok(limited.map_err(bad)?.to_bytes())
}

/// Refuses a version that does not exist yet, as docker does; older ones differ in nothing that is
/// served here.
fn check_version(version: &str) -> Result<(), DaemonError> {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    match (numbers(version), numbers(API_VERSION), numbers(OLDEST_VERSION)) {
        (Some(asked), Some(newest), _) if asked > newest => Err(DaemonError::BadRequest(format!(
            "client version {version} is too new. Maximum supported API version is {API_VERSION}"
        ))),
        (Some(asked), _, Some(oldest)) if asked < oldest => Err(DaemonError::BadRequest(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST_VERSION}"
        ))),
        (Some(_), _, _) => Ok(()),
        (None, _, _) => Err(DaemonError::BadRequest(format!("`{version}` is not a version"))),
    }
}

async fn route(call: Call) -> Reply {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let method = call.request.method().clone();
    match (&method, path.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => system::ping(&method),
        (&Method::GET, ["version"]) => system::version(),
        (&Method::GET, ["info"]) => system::info(&call),
        (&Method::GET, ["metrics"]) => Ok(answer::text(crate::metrics::text(&call.daemon))),
        (&Method::GET, ["events"]) => events::stream(&call),
        (&Method::GET, ["system", "df"]) => system::disk_usage(&call).await,
        (&Method::POST, ["auth"]) => system::auth(call).await,
        (_, ["containers", rest @ ..]) => containers(call, &method, rest).await,
        (_, ["exec", id, what]) => exec::route(call, &method, id, what).await,
        (_, ["images", rest @ ..]) => images::route(call, &method, rest).await,
        (_, ["volumes", rest @ ..]) => volumes::route(call, &method, rest).await,
        (_, ["networks", rest @ ..]) => system::networks(&method, rest),
        (&Method::POST, ["build", "prune"]) => {
            let nothing = json!({ "CachesDeleted": null, "SpaceReclaimed": 0 });
            Ok(answer::json(&nothing))
        }
        (_, ["build" | "commit" | "session" | "grpc" | "distribution", ..]) => Err(unsupported(
            "mote runs images and builds none; build with docker, buildah or `mote import`",
        )),
        (_, ["swarm" | "services" | "nodes" | "tasks" | "secrets" | "configs", ..]) => {
            // Docker's own words, which its clients know.
            Err(DaemonError::Unavailable("This node is not a swarm manager: mote has no swarm"))
        }
        _ => Err(DaemonError::Nothing {
            what: "page",
            name: format!("{method} /{}", path.join("/")),
        }),
    }
}

async fn containers(call: Call, method: &Method, path: &[&str]) -> Reply {
    match (method, path) {
        (&Method::GET, ["json"]) => containers::list(&call),
        (&Method::POST, ["create"]) => create::create(call).await,
        (&Method::POST, ["prune"]) => containers::prune(&call).await,
        (&Method::GET, [id, "json"]) => containers::inspect(&call, id),
        (&Method::GET, [id, "logs"]) => logs::stream(&call, id).await,
        (&Method::GET, [id, "stats"]) => stats::stream(&call, id),
        (&Method::POST, [id, "attach"]) => attach::attach(call, id).await,
        (&Method::POST, [id, "wait"]) => control::wait(&call, id),
        (&Method::POST, [id, "exec"]) => exec::create(call, id).await,
        (&Method::DELETE, [id]) => control::remove(&call, id).await,
        (&Method::GET | &Method::HEAD | &Method::PUT, [id, "archive"]) => {
            copy::route(call, method, id).await
        }
        (&Method::GET, [_, "top"]) => Err(unsupported(
            "a container of mote is one guest inside the daemon's process, and has no processes of its own; `stats` shows what it uses",
        )),
        (&Method::GET, [id, "changes" | "export"]) | (&Method::POST, [id, "commit"]) => {
            Err(unsupported(&format!(
                "the files of {id} are not kept apart from its image's; copy them out with `cp`"
            )))
        }
        (&Method::POST, [_, "resize"]) => Ok(answer::empty()),
        (&Method::POST, [id, verb]) => control::verb(call, id, verb).await,
        _ => Err(DaemonError::Nothing {
            what: "page",
            name: format!("{method} /containers/{}", path.join("/")),
        }),
    }
}

pub(crate) fn unsupported(why: &str) -> DaemonError {
    DaemonError::Unsupported(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_says_nothing_but_a_key_of_a_map_is_kept() {
        let mut value = json!({
            "Healthcheck": { "Test": ["CMD", "ok"], "Interval": null },
            "PortBindings": { "80/tcp": null },
            "Mounts": [{ "Source": null, "Target": "/a" }],
        });
        drop_nulls(&mut value);
        let kept = json!({
            "Healthcheck": { "Test": ["CMD", "ok"] },
            "PortBindings": { "80/tcp": null },
            "Mounts": [{ "Target": "/a" }],
        });
        assert_eq!(value, kept);
    }
}
