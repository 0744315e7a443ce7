//! Runs something beside a container: makes it, starts it, tells of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use mote_engine::Terminal;
use mote_lifecycle::{Stream, Talks};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Call;
use super::answer::{self, Reply};
use super::attach::{self, Wants};
use crate::console::Chunk;
use crate::entry::Role;
use crate::error::DaemonError;
use crate::execs::{Exec, ExecRequest, State};
use crate::request::random;

/// Docker's description of an exec.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Spec {
    attach_stdin: bool,
    tty: bool,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: String,
    user: String,
    privileged: bool,
}

/// How it is started.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartSpec {
    detach: bool,
}

/// How much input may wait for the guest.
const TYPED_AHEAD: usize = 64 << 10;
/// How many pieces of output may wait for the client.
const AHEAD: usize = 64;

/// `POST /containers/ID/exec`
pub(crate) async fn create(call: Call, id: &str) -> Reply {
    let (daemon, entry) = (Arc::clone(&call.daemon), call.daemon.find(id)?);
    let spec: Spec = call.json()?;
    if spec.privileged || !spec.user.is_empty() {
        return Err(super::unsupported(
            "--user and --privileged mean nothing to a Wasm container: it has what it is granted",
        ));
    }
    let pairs = spec.env.unwrap_or_default();
    let env: BTreeMap<String, String> = pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let wish = ExecRequest {
        command: spec.cmd.unwrap_or_default(),
        env: env.into_iter().collect(),
        cwd: Some(spec.working_dir).filter(|cwd| !cwd.is_empty()),
        terminal: if spec.tty { Terminal::AsIs } else { Terminal::No },
    };
    // What cannot be is said now, and not when somebody listens for output.
    daemon.prepare_exec(&entry, &wish, Role::Exec).await?;
    let id = mote_spec::ContainerId::new(random()?).to_string();
    daemon.ledger.tell(
        &entry.record(),
        &format!("exec_create: {}", wish.command.join(" ")),
        vec![("execID", id.clone())],
    );
    let exec = daemon.execs.add(Exec::new(id, entry, wish, spec.attach_stdin))?;
    Ok(answer::json_with(StatusCode::CREATED, &json!({ "Id": exec.id })))
}

/// `/exec/ID/WHAT`
pub(crate) async fn route(call: Call, method: &Method, id: &str, what: &str) -> Reply {
    let exec = call.daemon.execs.find(id)?;
    match (method, what) {
        (&Method::GET, "json") => Ok(answer::json(&shown(&exec))),
        (&Method::POST, "start") => start(call, exec).await,
        (&Method::POST, "resize") => Ok(answer::empty()),
        _ => {
            Err(DaemonError::Nothing { what: "page", name: format!("{method} /exec/{id}/{what}") })
        }
    }
}

fn shown(exec: &Exec) -> serde_json::Value {
    let (running, code) = match exec.state() {
        State::New => (false, None),
        State::Running => (true, None),
        State::Ended(how) => (false, Some(how.code())),
    };
    let (first, rest) = match exec.wish.command.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => ("", &[][..]),
    };
    json!({
        "ID": exec.id,
        "ContainerID": exec.entry.record().id.as_str(),
        "Running": running,
        "ExitCode": code,
        "Pid": 0,
        "OpenStdin": exec.takes_input,
        "OpenStdout": true,
        "OpenStderr": true,
        "CanRemove": false,
        "DetachKeys": "",
        "ProcessConfig": {
            "tty": exec.wish.terminal == Terminal::AsIs,
            "entrypoint": first,
            "arguments": rest,
            "privileged": false,
        },
    })
}

async fn start(call: Call, exec: Arc<Exec>) -> Reply {
    let StartSpec { detach } = call.json()?;
    let Call { daemon, mut request, peer, .. } = call;
    let ready = daemon.prepare_exec(&exec.entry, &exec.wish, Role::Exec).await?;
    exec.begin()?;
    let (sender, mut printed) = mpsc::channel::<Chunk>(AHEAD);
    let record = exec.entry.record();
    daemon.ledger.tell(&record, "exec_start", vec![("execID", exec.id.clone())]);
    if detach {
        tokio::spawn(async move {
            let silence = async { while printed.recv().await.is_some() {} };
            let (ended, ()) =
                tokio::join!(daemon.run_exec(&exec.entry, ready, None, sender), silence);
            exec.end(ended.status);
        });
        return Ok(answer::empty());
    }
    let talks = match exec.wish.terminal {
        Terminal::AsIs | Terminal::Yes => Talks::Terminal,
        Terminal::No => Talks::Streams,
    };
    let (reply, taken) = match attach::take_over(&mut request, talks) {
        Ok(taken) => taken,
        Err(error) => {
            exec.end(mote_spec::ExitStatus::NotStarted);
            return Err(error);
        }
    };
    tokio::spawn(async move {
        let Ok(taken) = taken.await else {
            exec.end(mote_spec::ExitStatus::NotStarted);
            return;
        };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(taken));
        let (input, typing) = match exec.takes_input {
            true => {
                let (mut ours, theirs) = tokio::io::duplex(TYPED_AHEAD);
                let typing = async move {
                    let mut buffer = vec![0; 16 << 10];
                    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                        if ours.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                };
                (Some(theirs), Some(tokio::spawn(typing)))
            }
            false => (None, None),
        };
        let wants = Wants { stdout: true, stderr: true };
        let run = async {
            let ended = daemon.run_exec(&exec.entry, ready, input, sender.clone()).await;
            if let Some(detail) = &ended.detail {
                let bytes = format!("{detail}\n").into_bytes().into();
                // The client may have gone.
                let _ = sender.send(Chunk { stream: Stream::Stderr, bytes }).await;
            }
            // The code is there before the client sees the end.
            exec.end(ended.status);
            drop(sender);
            ended.status
        };
        let seen = async {
            let (how, ()) = tokio::join!(run, attach::show(printed, &mut writer, talks, wants));
            how
        };
        // There is no other way to end it: it goes with whoever wanted it.
        let how = tokio::select! {
            how = seen => how,
            () = attach::hung_up(&peer) => {
                exec.end(mote_spec::ExitStatus::Killed);
                mote_spec::ExitStatus::Killed
            }
        };
        typing.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = writer.shutdown().await;
        let code = how.code().to_string();
        let told = vec![("execID", exec.id.clone()), ("exitCode", code)];
        daemon.ledger.tell(&exec.entry.record(), "exec_die", told);
    });
    Ok(reply)
}
