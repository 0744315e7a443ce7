//! Named volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use super::answer::{self, Reply};
use super::filters::Filters;
use crate::daemon::Daemon;
use crate::error::DaemonError;
use crate::events::Kind;
use crate::volumes::{ANONYMOUS, Volume};

/// Docker's description of a volume.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Spec {
    name: String,
    driver: String,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

pub(crate) async fn route(call: Call, method: &Method, path: &[&str]) -> Reply {
    let daemon = Arc::clone(&call.daemon);
    match (method, path) {
        (&Method::GET, []) => beside(move || list(&call)).await,
        (&Method::POST, ["create"]) => create(call).await,
        (&Method::POST, ["prune"]) => beside(move || prune(&call)).await,
        (&Method::DELETE, []) => {
            Err(DaemonError::BadRequest("the name of a volume is empty".to_owned()))
        }
        (&Method::GET, [name]) => Ok(answer::json(&shown(&daemon.volumes.find(name)?))),
        (&Method::DELETE, [name]) => {
            let volume = daemon.volumes.find(name)?;
            beside(move || {
                let _removing = daemon.volumes.removing();
                remove(&daemon, &volume).map(|()| answer::done())
            })
            .await
        }
        _ => Err(DaemonError::Nothing {
            what: "page",
            name: format!("{method} /volumes/{}", path.join("/")),
        }),
    }
}

/// Runs what waits for the disk beside everything else.
async fn beside(work: impl FnOnce() -> Reply + Send + 'static) -> Reply {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(DaemonError::Failed("the request failed".to_owned())))
}

/// A volume as docker's clients see it.
pub(crate) fn shown(volume: &Volume) -> Value {
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": volume.data.display().to_string(),
        "CreatedAt": volume.created.to_string(),
        "Labels": volume.labels,
        "Scope": "local",
        "Options": null,
    })
}

fn list(call: &Call) -> Reply {
    let filters =
        Filters::read(call.query.text("filters"), &["name", "label", "dangling", "driver"])?;
    let wanted = |volume: &Volume| {
        let dangling = if call.daemon.users_of(volume).is_empty() { "true" } else { "false" };
        filters.any("name", |name| volume.name.contains(name))
            && filters.any("driver", |driver| driver == "local")
            && filters.any("dangling", |wanted| {
                matches!((wanted, dangling), ("true" | "1", "true") | ("false" | "0", "false"))
            })
            && filters.labels(&volume.labels)
    };
    let volumes = call.daemon.volumes.list();
    let volumes: Vec<Value> = volumes.iter().filter(|volume| wanted(volume)).map(shown).collect();
    Ok(answer::json(&json!({ "Volumes": volumes, "Warnings": null })))
}

async fn create(call: Call) -> Reply {
    let daemon = Arc::clone(&call.daemon);
    let Spec { name, driver, driver_opts, labels } = call.json()?;
    if !matches!(driver.as_str(), "" | "local") || driver_opts.is_some_and(|all| !all.is_empty()) {
        return Err(super::unsupported(
            "volumes are folders of this machine: there are no drivers and no options",
        ));
    }
    let volume = match name.as_str() {
        "" => daemon.volumes.make_anonymous()?,
        name => daemon.volumes.make(name, &labels.unwrap_or_default())?,
    };
    daemon.ledger.events.tell(Kind::Volume, "create", &volume.name, BTreeMap::new());
    Ok(answer::json_with(StatusCode::CREATED, &shown(&volume)))
}

fn remove(daemon: &Daemon, volume: &Volume) -> Result<(), DaemonError> {
    let users = daemon.users_of(volume);
    if !users.is_empty() {
        return Err(DaemonError::Conflict(format!(
            "remove {}: volume is in use by {}",
            volume.name,
            users.join(", ")
        )));
    }
    daemon.volumes.remove(volume)?;
    daemon.ledger.events.tell(Kind::Volume, "destroy", &volume.name, BTreeMap::new());
    Ok(())
}

fn prune(call: &Call) -> Reply {
    let filters = Filters::read(call.query.text("filters"), &["label", "label!", "all"])?;
    call.daemon.check_prune()?;
    // As docker has it: what somebody named goes only if that is asked for.
    let all = filters.values("all").iter().any(|value| matches!(value.as_str(), "1" | "true"));
    let (mut removed, mut freed) = (Vec::new(), 0);
    let _removing = call.daemon.volumes.removing();
    for volume in call.daemon.volumes.list() {
        let bytes = mote_image::bytes_below(&volume.data);
        // One that is in use stays.
        let doomed = all || volume.labels.contains_key(ANONYMOUS);
        if doomed && filters.labels(&volume.labels) && remove(&call.daemon, &volume).is_ok() {
            freed += bytes;
            removed.push(volume.name);
        }
    }
    Ok(answer::json(&json!({ "VolumesDeleted": removed, "SpaceReclaimed": freed })))
}
