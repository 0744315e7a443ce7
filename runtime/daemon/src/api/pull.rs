//! `POST /images/create`: pulls an image, and tells how far it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use mote_image::manifest::Platform;
use mote_image::registry::{Client, Credential, Settings};
use mote_image::{Progress, Stored};
use mote_spec::ImageRef;
use serde::Deserialize;
use serde_json::json;

use super::Call;
use super::answer::{self, Reply, Writer};
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
    Ok(answer::stream("application/json", move |mut writer| async move {
        let name = image.familiar();
        let tag = image.tag().unwrap_or("latest").to_owned();
        let first = json!({ "status": format!("Pulling from {}", image.repository()), "id": tag });
        if !writer.line(&first).await {
            return;
        }
        match fetch(&daemon, settings, &image, platform, &mut writer).await {
            Ok(stored) => {
                daemon.tell_image("pull", &name);
                let digest = json!({ "status": format!("Digest: {}", stored.resolved) });
                let last = json!({ "status": format!("Status: Image is ready: {name}") });
                // The client may have gone.
                let _ = writer.line(&digest).await && writer.line(&last).await;
            }
            Err(why) => {
                let error = json!({ "errorDetail": { "message": why }, "error": why });
                let _ = writer.line(&error).await;
            }
        }
    }))
}

async fn fetch(
    daemon: &Arc<Daemon>,
    settings: Settings,
    image: &ImageRef,
    platform: Option<Platform>,
    writer: &mut Writer,
) -> Result<Stored, String> {
    let client = Client::new(settings).map_err(|error| causes(&error))?;
    let store = daemon.machine.store().map_err(|error| causes(&error))?;
    let progress = Arc::new(Progress::default());
    let pulling = mote_image::pull(&store, &client, image, platform.as_ref(), &progress);
    tokio::pin!(pulling);
    let mut tick = tokio::time::interval(EVERY);
    let stored = loop {
        tokio::select! {
            pulled = &mut pulling => break pulled.map_err(|error| causes(&error))?,
            _ = tick.tick() => {
                let (done, total) =
                    (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
                let message = json!({
                    "status": "Downloading",
                    "id": image.tag().unwrap_or("image"),
                    "progressDetail": { "current": done, "total": total },
                });
                if total > 0 && !writer.line(&message).await {
                    return Err("the client has gone".to_owned());
                }
            }
        }
    };
    let compiling = json!({ "status": "Compiling", "id": image.tag().unwrap_or("image") });
    let _ = writer.line(&compiling).await;
    let (ahead, compiled) = (Arc::clone(daemon), stored.clone());
    let done = tokio::task::spawn_blocking(move || ahead.compile_ahead(&compiled)).await;
    match done {
        Ok(Ok(())) => Ok(stored),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("compiling it failed".to_owned()),
    }
}
