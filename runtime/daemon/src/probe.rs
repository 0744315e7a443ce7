//! Asks containers how they are, and does what is to be done about the answers.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use mote_engine::Terminal;
use mote_lifecycle::{
    Ended, Health, HealthCheck, HealthStatus, OnFailure, Probe, Probed, Record, Status, Time,
};
use mote_spec::ExitStatus;
use tokio::sync::mpsc;

use crate::daemon::Daemon;
use crate::entry::{Entry, Role};
use crate::execs::ExecRequest;

/// How much of what a probe prints is kept (docker's figure).
const KEPT: usize = 4096;

/// Probes a container whenever it runs, until it is removed.
pub(crate) async fn look_after(daemon: Weak<Daemon>, entry: Weak<Entry>) {
    loop {
        let Some(container) = entry.upgrade().map(|entry| entry.container.clone()) else { return };
        let running = container
            .wait(|record| record.status().is_live() || record.status() == Status::Removed);
        let Ok(record) = running.await else { return };
        let (Some(check), Some(started)) = (record.setup.health.clone(), record.started) else {
            return;
        };
        if record.status() == Status::Removed {
            return;
        }
        if let Some(entry) = entry.upgrade() {
            *entry.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::default();
        }
        let ended = container.wait(|record| !is_same_run(record, started));
        let probing = async {
            probe_run(&daemon, &entry, &check, started).await;
            // Something was done about it: what was found stays to be seen until the next run.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = ended => {}
            () = probing => {}
        }
    }
}

fn is_same_run(record: &Record, started: Time) -> bool {
    record.status().is_live() && record.started == Some(started)
}

/// Probes one run until something was done about it.
async fn probe_run(daemon: &Weak<Daemon>, entry: &Weak<Entry>, check: &HealthCheck, started: Time) {
    loop {
        let Some(health) = entry.upgrade().map(|entry| entry.health_now()) else { return };
        tokio::time::sleep(check.pause(health, Time::now().since(started))).await;
        let (Some(daemon), Some(entry)) = (daemon.upgrade(), entry.upgrade()) else { return };
        // What is paused cannot answer, and is not ill.
        if entry.record().status() != Status::Running {
            continue;
        }
        let probed = probe(&daemon, &entry, check).await;
        let (before, after) = {
            let mut health = entry.health.lock().unwrap_or_else(PoisonError::into_inner);
            let before = health.status;
            *health = health.after(check, started, probed);
            (before, health.status)
        };
        if before == after {
            continue;
        }
        if let Err(error) = entry.container.note_health(after).await {
            tracing::warn!(container = %entry.record().name, %error, "its health is not recorded");
        }
        if after == HealthStatus::Unhealthy && check.on_failure != OnFailure::None {
            // On its own, since it ends the run, and this with it.
            tokio::spawn(act(daemon, entry, check.on_failure));
            return;
        }
    }
}

/// Does what is to be done about a container that is unhealthy.
async fn act(daemon: Arc<Daemon>, entry: Arc<Entry>, what: OnFailure) {
    let done = match what {
        OnFailure::None => Ok(()),
        OnFailure::Kill => {
            let detail = Some("it was unhealthy".to_owned());
            let ended = Ended { status: ExitStatus::Killed, detail };
            entry.container.fail(ended).await.map_err(Into::into)
        }
        OnFailure::Restart => {
            let detail = Some("it was unhealthy".to_owned());
            let ended = Ended { status: ExitStatus::Killed, detail };
            entry.container.fail_and_restart(ended).await.map_err(Into::into)
        }
        OnFailure::Stop => daemon.stop(&entry, None).await,
    };
    if let Err(error) = done {
        let name = &entry.record().name;
        tracing::warn!(container = %name, %error, "nothing is done about its health");
    }
}

async fn probe(daemon: &Arc<Daemon>, entry: &Arc<Entry>, check: &HealthCheck) -> Probed {
    let start = Time::now();
    let asked = async {
        match &check.probe {
            Probe::Exec(command) => exec(daemon, entry, command).await,
            Probe::Http(url) => http(url).await,
        }
    };
    let (code, output) = match tokio::time::timeout(check.timeout(), asked).await {
        Ok(answer) => answer,
        Err(_) => {
            let limit = humantime::format_duration(check.timeout());
            (-1, format!("Health check exceeded timeout ({limit})"))
        }
    };
    Probed { start, end: Time::now(), code, output }
}

async fn exec(daemon: &Arc<Daemon>, entry: &Arc<Entry>, command: &[String]) -> (i32, String) {
    let wish = ExecRequest {
        command: command.to_vec(),
        env: Vec::new(),
        cwd: None,
        terminal: Terminal::No,
    };
    let ready = match daemon.prepare_exec(entry, &wish, Role::Probe).await {
        Ok(ready) => ready,
        Err(error) => return (-1, error.to_string()),
    };
    let (sender, mut printed) = mpsc::channel::<crate::console::Chunk>(8);
    let gather = async {
        let mut text = Vec::new();
        while let Some(chunk) = printed.recv().await {
            let room = KEPT.saturating_sub(text.len()).min(chunk.bytes.len());
            text.extend_from_slice(&chunk.bytes[..room]);
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let (ended, mut text) = tokio::join!(daemon.run_exec(entry, ready, None, sender), gather);
    if let Some(detail) = ended.detail {
        text.push_str(&detail);
    }
    (i32::from(ended.status.code()), text)
}

/// How long an HTTP probe's connection may take beside the check's own limit.
const CONNECT: Duration = Duration::from_secs(10);

async fn http(url: &str) -> (i32, String) {
    match get(url).await {
        Ok(status) if status.is_success() || status.is_redirection() => (0, status.to_string()),
        Ok(status) => (1, status.to_string()),
        Err(why) => (1, why),
    }
}

async fn get(url: &str) -> Result<hyper::StatusCode, String> {
    let url: hyper::Uri = url.parse().map_err(|_| format!("{url} is not an address"))?;
    let host = url.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']);
    let address = (host, url.port_u16().unwrap_or(80));
    let connect = tokio::net::TcpStream::connect(address);
    let stream = tokio::time::timeout(CONNECT, connect).await;
    let stream = stream.map_err(|_| "no connection".to_owned())?.map_err(|e| e.to_string())?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, url.authority().map_or("", |authority| authority.as_str()))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    // The answer may come with the connection's end; it counts all the same.
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    answer.map(|answer| answer.status()).map_err(|error| error.to_string())
}

/// Checks an address that is to be probed.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    match url.parse::<hyper::Uri>() {
        Ok(parsed) if parsed.scheme_str() == Some("http") && parsed.host().is_some() => Ok(()),
        _ => Err(format!("`{url}` cannot be probed: write http://ADDRESS[:PORT]/PATH")),
    }
}
