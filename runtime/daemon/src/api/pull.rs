//! `POST /images/create`: pulls an image, and tells how far it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use mote_engine::Waiting;
use mote_image::Stored;
use mote_image::manifest::Platform;
use mote_registry::{Client, Credential, Progress, PullError, RegistryError, Settings};
use mote_spec::ImageRef;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Call;
use super::answer::{self, Reply};
use crate::daemon::Daemon;
use crate::error::DaemonError;
use crate::report::causes;

/// How often a client is told.
const EVERY: Duration = Duration::from_millis(200);

/// A credential as docker's client sends it along.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    username: String,
    password: String,
    identitytoken: String,
}

/// Reads the header `X-Registry-Auth`.
fn credential(call: &Call) -> Result<Option<Credential>, DaemonError> {
    let Some(header) = call.request.headers().get("X-Registry-Auth") else { return Ok(None) };
    let bad = || DaemonError::BadRequest("X-Registry-Auth cannot be read".to_owned());
    let text = header.to_str().map_err(|_| bad())?;
    let decoded = [URL_SAFE, URL_SAFE_NO_PAD, STANDARD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
        .ok_or_else(bad)?;
    let auth: Auth = super::parse(&decoded)?;
    Ok(match (auth.username.as_str(), auth.identitytoken.as_str()) {
        ("", "") => None,
        (_, "") => Some(Credential::Password { user: auth.username, password: auth.password }),
        (_, token) => Some(Credential::RefreshToken(token.to_owned())),
    })
}

/// The image that a client names in two parts.
fn reference(call: &Call) -> Result<ImageRef, DaemonError> {
    let from = call.query.text("fromImage").unwrap_or_default();
    let text = match call.query.text("tag") {
        Some(tag) if tag.contains(':') => format!("{from}@{tag}"),
        Some(tag) => format!("{from}:{tag}"),
        None => from.to_owned(),
    };
    text.parse()
        .map_err(|error: mote_spec::ReferenceError| DaemonError::BadRequest(error.to_string()))
}

fn platform(call: &Call) -> Result<Option<Platform>, DaemonError> {
    let Some(text) = call.query.text("platform") else { return Ok(None) };
    let mut parts = text.splitn(3, '/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant) => Ok(Some(Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })),
        _ => Err(DaemonError::BadRequest(format!(
            "`{text}` is no platform: write OS/ARCH, such as wasip2/wasm"
        ))),
    }
}

/// Pulls an image, and sends messages on the way, as docker does.
pub(crate) async fn pull(call: Call) -> Reply {
    if call.query.text("fromSrc").is_some() {
        return Err(super::unsupported(
            "an image is not made of a bare archive; `mote import` makes one of a Wasm file",
        ));
    }
    let (image, platform) = (reference(&call)?, platform(&call)?);
    let mut settings = call.daemon.registries.clone();
    settings.credentials.explicit = credential(&call)?.or(settings.credentials.explicit);
    let daemon = Arc::clone(&call.daemon);
    let (tell, mut told) = mpsc::channel::<Result<Value, DaemonError>>(AHEAD);
    let (name, wanted) = (image.familiar(), image.clone());
    tokio::spawn(async move {
        let pulled = fetch(&daemon, settings, &wanted, platform, &tell).await;
        let last = match pulled {
            Ok(stored) => {
                daemon.tell_image("pull", &name);
                let digest = json!({ "status": format!("Digest: {}", stored.resolved) });
                // The client may have gone.
                let _ = tell.send(Ok(digest)).await;
                Ok(json!({ "status": format!("Status: Image is ready: {name}") }))
            }
            Err(error) => Err(error),
        };
        let _ = tell.send(last).await;
    });
    // What fails before anything is told of it is an answer of its own.
    let first = match told.recv().await {
        Some(Err(error)) => return Err(error),
        first => first,
    };
    Ok(answer::stream("application/json", move |mut writer| async move {
        let tag = image.tag().unwrap_or("latest").to_owned();
        let begun = json!({ "status": format!("Pulling from {}", image.repository()), "id": tag });
        if !writer.line(&begun).await {
            return;
        }
        let mut next = first;
        while let Some(message) = next {
            let line = message.unwrap_or_else(|error| {
                let why = error.to_string();
                json!({ "errorDetail": { "message": why }, "error": why })
            });
            if !writer.line(&line).await {
                return;
            }
            next = told.recv().await;
        }
    }))
}

/// How many messages may wait for the client.
const AHEAD: usize = 16;

type Tell = mpsc::Sender<Result<Value, DaemonError>>;

fn failed(error: &dyn std::error::Error) -> DaemonError {
    DaemonError::Failed(causes(error))
}

async fn fetch(
    daemon: &Arc<Daemon>,
    settings: Settings,
    image: &ImageRef,
    platform: Option<Platform>,
    tell: &Tell,
) -> Result<Stored, DaemonError> {
    let client = Client::new(settings).map_err(|error| failed(&error))?;
    let store = daemon.machine.store()?;
    let progress = Arc::new(Progress::default());
    let pulling = mote_registry::pull(&store, &client, image, platform.as_ref(), &progress);
    tokio::pin!(pulling);
    let mut tick = tokio::time::interval(EVERY);
    let stored = loop {
        tokio::select! {
            pulled = &mut pulling => break pulled.map_err(|error| match error {
                PullError::Registry(RegistryError::NotFound { .. }) => {
                    DaemonError::NoImage(causes(&error))
                }
                error => failed(&error),
            })?,
            _ = tick.tick() => {
                let (done, total) =
                    (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
                let message = json!({
                    "status": "Downloading",
                    "id": image.tag().unwrap_or("image"),
                    "progressDetail": { "current": done, "total": total },
                });
                // A client that is slow misses one: the pull goes on meanwhile.
                if total > 0 && matches!(tell.try_send(Ok(message)), Err(TrySendError::Closed(_))) {
                    return Err(DaemonError::Failed("the client has gone".to_owned()));
                }
            }
        }
    };
    let compiling = json!({ "status": "Compiling", "id": image.tag().unwrap_or("image") });
    let _ = tell.send(Ok(compiling)).await;
    let (ahead, compiled) = (Arc::clone(daemon), stored.clone());
    let waiting = Waiting::new();
    let client = waiting.wanted();
    let compiling = tokio::task::spawn_blocking(move || ahead.compile_ahead(&compiled, &client));
    let done = tokio::select! {
        done = compiling => done,
        () = tell.closed() => return Err(DaemonError::Failed("the client has gone".to_owned())),
    };
    drop(waiting);
    match done {
        Ok(Ok(())) => Ok(stored),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(DaemonError::Failed("compiling it failed".to_owned())),
    }
}
