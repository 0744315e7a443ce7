//! `/containers/ID/archive`: copies files into and out of a container.

use std::sync::Arc;

use base64::Engine as _;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::json;

use super::Call;
use super::answer::{self, Reply};
use crate::archive::{self, Stat};
use crate::error::DaemonError;

/// Where docker's clients read what is at a path.
const STAT: &str = "X-Docker-Container-Path-Stat";

pub(crate) async fn route(call: Call, method: &Method, id: &str) -> Reply {
    let entry = call.daemon.find(id)?;
    let path = call.query.text("path").unwrap_or_default().to_owned();
    if path.is_empty() {
        return Err(DaemonError::BadRequest("no path is named".to_owned()));
    }
    if *method == Method::PUT {
        let archive = call.archive()?;
        let write = move || archive::place(&entry, &path)?.write(archive);
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| DaemonError::Failed("copying failed".to_owned()))??;
        return Ok(answer::empty());
    }
    let looked = Arc::clone(&entry);
    let look = move || {
        let place = archive::place(&looked, &path)?;
        place.stat().map(|stat| (place, stat))
    };
    let found = tokio::task::spawn_blocking(look).await;
    let (place, stat) = found.map_err(|_| DaemonError::Failed("looking failed".to_owned()))??;
    let mut reply = match *method == Method::HEAD {
        true => answer::empty(),
        false => answer::piped("application/x-tar", move |pipe| {
            place.read(pipe).map_err(|error| error.to_string())
        }),
    };
    reply.headers_mut().insert(STAT, header(&stat)?);
    Ok(reply)
}

fn header(stat: &Stat) -> Result<HeaderValue, DaemonError> {
    let Stat { name, size, mode, modified, link } = stat;
    let text = json!({
        "name": name,
        "size": size,
        "mode": mode,
        "mtime": humantime::format_rfc3339_nanos(*modified).to_string(),
        "linkTarget": link,
    });
    let encoded = base64::engine::general_purpose::STANDARD.encode(text.to_string());
    HeaderValue::from_str(&encoded).map_err(|error| DaemonError::Failed(error.to_string()))
}
