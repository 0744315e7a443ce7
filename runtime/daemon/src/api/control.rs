//! Starts, stops, pauses, changes and removes containers, and waits for them.

use std::sync::Arc;
use std::time::Duration;

use mote_lifecycle::{DriveError, RestartPolicy, Status};
use mote_spec::{Bytes, LimitWants};
use serde::Deserialize;
use serde_json::json;

use super::Call;
use super::answer::{self, Reply};
use super::create;
use super::description::{self, RestartSpec};
use super::refused;
use crate::daemon::{Daemon, Force};
use crate::entry::Entry;
use crate::error::DaemonError;

/// `POST /containers/ID/VERB`
pub(crate) async fn verb(call: Call, id: &str, verb: &str) -> Reply {
    let (daemon, entry) = (Arc::clone(&call.daemon), call.daemon.find(id)?);
    match verb {
        "start" => start(&entry).await,
        "stop" => stop(&call, &daemon, &entry).await,
        "restart" => {
            daemon.restart(&entry, grace(&call)?).await?;
            Ok(answer::done())
        }
        "kill" => kill(&call, &daemon, &entry).await,
        "pause" => {
            entry.pause().await?;
            Ok(answer::done())
        }
        "unpause" => {
            entry.unpause().await?;
            Ok(answer::done())
        }
        "rename" => {
            let name = call.query.text("name").unwrap_or_default().trim_start_matches('/');
            let name = name
                .parse()
                .map_err(|error: mote_spec::IdError| DaemonError::BadRequest(error.to_string()))?;
            daemon.rename(&entry, name).await?;
            Ok(answer::done())
        }
        "update" => update(call, &daemon, &entry).await,
        _ => Err(DaemonError::Nothing {
            what: "page",
            name: format!("POST /containers/{id}/{verb}"),
        }),
    }
}

async fn start(entry: &Entry) -> Reply {
    match entry.record().status() {
        Status::Running => return Err(DaemonError::NotModified("it runs already")),
        Status::Created | Status::Paused | Status::Stopped(_) | Status::Removed => {}
    }
    match entry.container.start().await {
        // Its policy has started it meanwhile.
        Err(DriveError::Refused(_)) if entry.record().status() == Status::Running => {
            Err(DaemonError::NotModified("it runs already"))
        }
        started => Ok(started.map(|()| answer::done())?),
    }
}

/// How long a guest is given that listens for its end.
fn grace(call: &Call) -> Result<Option<Duration>, DaemonError> {
    // Docker's -1 is to wait for ever.
    let seconds: Option<i64> = call.query.number("t")?;
    Ok(seconds
        .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(u32::MAX.into()))))
}

async fn stop(call: &Call, daemon: &Daemon, entry: &Entry) -> Reply {
    let asks = call.query.text("signal").map(signal).transpose()?;
    let record = entry.record();
    if !record.status().is_live() {
        // One that waits to be started again is not, from now on.
        if entry.container.waits_to_restart() {
            entry.container.let_end().await?;
            return Ok(answer::done());
        }
        return Err(DaemonError::NotModified("it does not run"));
    }
    match asks {
        None | Some(Signal::Term) => daemon.stop(entry, grace(call)?).await?,
        Some(Signal::Kill) => {
            entry.container.kill().await?;
            entry.guest.gone().await;
        }
    }
    Ok(answer::done())
}

/// A guest has no signals: each is what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Term,
    Kill,
}

fn signal(text: &str) -> Result<Signal, DaemonError> {
    match text.strip_prefix("SIG").unwrap_or(text) {
        "KILL" | "9" => Ok(Signal::Kill),
        "TERM" | "15" | "INT" | "2" | "HUP" | "1" | "QUIT" | "3" => Ok(Signal::Term),
        _ => Err(DaemonError::BadRequest(format!(
            "a guest of WASI has no signal {text}; KILL and TERM end it"
        ))),
    }
}

async fn kill(call: &Call, daemon: &Daemon, entry: &Entry) -> Reply {
    let record = entry.record();
    if !record.status().is_live() {
        return Err(DaemonError::Conflict(format!("container {} is not running", record.name)));
    }
    let text = call.query.text("signal").unwrap_or("KILL");
    let (signal, short) = (signal(text)?, text.strip_prefix("SIG").unwrap_or(text));
    // Before its end, as docker has it.
    daemon.ledger.tell(&record, "kill", vec![("signal", short.to_owned())]);
    match signal {
        Signal::Kill => entry.container.kill().await?,
        Signal::Term => entry.container.stop().await?,
    }
    entry.guest.gone().await;
    Ok(answer::done())
}

/// The limits of `docker update`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Update {
    memory: i64,
    nano_cpus: i64,
    cpu_quota: i64,
    cpu_period: i64,
    restart_policy: Option<RestartSpec>,
    /// Mote's own: network bytes in a second.
    net_rate: i64,
}

async fn update(call: Call, daemon: &Daemon, entry: &Entry) -> Reply {
    let asked: serde_json::Value = call.json()?;
    refused::refuse(&asked, &refused::RESOURCES)?;
    let bad = |error| DaemonError::BadRequest(format!("the update cannot be read: {error}"));
    let update: Update = match asked {
        serde_json::Value::Null => Update::default(),
        asked => serde_json::from_value(asked).map_err(bad)?,
    };
    let Update { memory, nano_cpus, cpu_quota, cpu_period, restart_policy, net_rate } = update;
    let wants = LimitWants {
        memory: description::positive(memory).map(Bytes::new),
        cpus: create::cpu_share(nano_cpus, cpu_quota, cpu_period)?,
        net_rate: description::positive(net_rate).map(create::rate).transpose()?,
        ..LimitWants::default()
    };
    let restart = restart_policy.map(|spec| spec.policy()).transpose()?;
    let restart: Option<RestartPolicy> = restart.flatten();
    daemon.update(entry, wants, restart).await?;
    Ok(answer::json(&json!({ "Warnings": [] })))
}

/// `DELETE /containers/ID`
pub(crate) async fn remove(call: &Call, id: &str) -> Reply {
    let force = if call.query.flag("force") { Force::Yes } else { Force::No };
    if force == Force::Yes && call.daemon.discard(id).await? {
        return Ok(answer::done());
    }
    let entry = call.daemon.find(id)?;
    let record = entry.record();
    if force == Force::No && record.status().is_live() {
        let status = super::view::state(&record, false);
        return Err(DaemonError::Conflict(format!(
            "cannot remove container \"/{}\": container is {status}: stop the container before removing or force remove",
            record.name
        )));
    }
    call.daemon.remove(&entry, force).await?;
    if call.query.flag("v") {
        let daemon = Arc::clone(&call.daemon);
        let removing = move || daemon.remove_anonymous_of(&record);
        // What stays behind goes with the next prune.
        let _ = tokio::task::spawn_blocking(removing).await;
    }
    Ok(answer::done())
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

/// `POST /containers/ID/wait`: the answer's head comes at once, so that a client knows that it waits.
pub(crate) fn wait(call: &Call, id: &str) -> Reply {
    let entry = call.daemon.find(id)?;
    let condition = match call.query.text("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => {
            return Err(DaemonError::BadRequest(format!(
                "`{other}` is no condition: not-running, next-exit and removed are"
            )));
        }
    };
    let ends = entry.record().ends;
    let container = entry.container.clone();
    drop(entry);
    Ok(answer::stream("application/json", move |mut writer| async move {
        let over = container.wait(|record| match condition {
            Condition::NotRunning => !record.status().is_live(),
            Condition::NextExit => record.ends > ends || record.status() == Status::Removed,
            Condition::Removed => record.status() == Status::Removed,
        });
        let record = match over.await {
            Ok(record) => record,
            Err(
                DriveError::Gone
                | DriveError::Refused(_)
                | DriveError::Records(_)
                | DriveError::Start(_),
            ) => container.record(),
        };
        let code = record.last_end.map_or(0, mote_spec::ExitStatus::code);
        // The client may have gone.
        let _ = writer.line(&json!({ "StatusCode": code })).await;
    }))
}
