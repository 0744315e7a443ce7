//! Speaks to the daemon over its API, and starts it where a command needs one.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::app::App;
use crate::commands::daemon_socket;
use crate::error::CliError;
use crate::fetch::block_on;
use crate::output;

/// The daemon of this machine, as a client of its API sees it.
pub(crate) struct Client {
    socket: PathBuf,
}

/// What a client sends along.
pub(crate) enum Body {
    Nothing,
    Json(Value),
    Archive(Vec<u8>),
}

/// Whether input is passed on to what is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    No,
    Yes,
}

/// How output comes: as it is, or in docker's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framed {
    No,
    Yes,
}

impl Client {
    /// The daemon, if one answers.
    pub(crate) fn running(app: &App) -> Option<Client> {
        let client = Client { socket: daemon_socket(app) };
        std::os::unix::net::UnixStream::connect(&client.socket).is_ok().then_some(client)
    }

    /// The daemon; one that does not run is started.
    pub(crate) fn or_start(app: &App) -> Result<Client, CliError> {
        match Client::running(app) {
            Some(client) => Ok(client),
            None => {
                start(app)?;
                Ok(Client { socket: daemon_socket(app) })
            }
        }
    }

    /// The daemon, or an error that says how to have one.
    pub(crate) fn or_hint(app: &App, what: &str) -> Result<Client, CliError> {
        Client::running(app).ok_or_else(|| {
            CliError::not_found(format!(
                "{what} is not here, and no daemon runs that could have it"
            ))
            .hint("`mote daemon` starts one, and so does `mote run -d`; `mote ps` lists what runs")
        })
    }

    /// Sends a request, and returns its answer's JSON.
    pub(crate) fn call(&self, method: Method, path: &str, body: Body) -> Result<Value, CliError> {
        let bytes = self.bytes(method, path, body)?;
        match bytes.trim_ascii() {
            [] => Ok(Value::Null),
            text => parsed(text),
        }
    }

    /// What is at a path, as a type that knows what is wanted of it: quick also for long lists.
    pub(crate) fn get_as<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        parsed(&self.bytes(Method::GET, path, Body::Nothing)?)
    }

    fn bytes(&self, method: Method, path: &str, body: Body) -> Result<Bytes, CliError> {
        let (status, bytes) = block_on(async {
            let answer = self.send(method, path, body, Upgrades::No).await?;
            let status = answer.status();
            Ok::<_, CliError>((status, whole(answer).await?))
        })??;
        check(status, &bytes)?;
        Ok(bytes)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, CliError> {
        self.call(Method::GET, path, Body::Nothing)
    }

    pub(crate) fn post(&self, path: &str, body: Body) -> Result<Value, CliError> {
        self.call(Method::POST, path, body)
    }

    /// Whether a container of this name or id is there.
    pub(crate) fn has(&self, container: &str) -> bool {
        self.get(&format!("/containers/{}/json", encoded(container))).is_ok()
    }

    /// Sends a request, and hands on its answer piece by piece, until it ends or `each` has enough.
    pub(crate) fn stream(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<More, CliError>,
    ) -> Result<(), CliError> {
        block_on(async {
            let mut answer = self.send(Method::GET, path, Body::Nothing, Upgrades::No).await?;
            let status = answer.status();
            if !status.is_success() {
                return check(status, &whole(answer).await?);
            }
            while let Some(frame) = answer.frame().await {
                let frame = frame.map_err(|error| broken(&error))?;
                if let Some(bytes) = frame.data_ref()
                    && each(bytes)? == More::Enough
                {
                    break;
                }
            }
            Ok(())
        })?
    }

    /// Attaches to what a request starts: passes output on, and input if it is wanted, until the end
    /// of the output. `then` is done when the connection stands.
    pub(crate) fn attach(
        &self,
        path: &str,
        body: Body,
        (typing, framed): (Typing, Framed),
        then: impl AsyncFnOnce(&Client) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        block_on(async {
            let answer = self.send(Method::POST, path, body, Upgrades::Yes).await?;
            let status = answer.status();
            if status != StatusCode::SWITCHING_PROTOCOLS {
                return check(status, &whole(answer).await?);
            }
            let taken = hyper::upgrade::on(answer).await.map_err(|error| broken(&error))?;
            then(self).await?;
            pass_on(taken, typing, framed).await
        })?
    }

    /// The same request, awaited: for use within `attach`.
    pub(crate) async fn post_now(&self, path: &str, body: Body) -> Result<(), CliError> {
        let answer = self.send(Method::POST, path, body, Upgrades::No).await?;
        let status = answer.status();
        check(status, &whole(answer).await?)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        upgrades: Upgrades,
    ) -> Result<Response<Incoming>, CliError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            CliError::new(format!("cannot reach the daemon at {}: {error}", self.socket.display()))
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).header(HOST, "mote");
        if upgrades == Upgrades::Yes {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        }
        let (kind, bytes) = match body {
            Body::Nothing => ("application/json", Bytes::new()),
            Body::Json(value) => ("application/json", value.to_string().into()),
            Body::Archive(bytes) => ("application/x-tar", bytes.into()),
        };
        let request = request
            .header(CONTENT_TYPE, kind)
            .body(Full::new(bytes))
            .map_err(|error| CliError::new(format!("the request cannot be written: {error}")))?;
        sender.send_request(request).await.map_err(|error| broken(&error))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upgrades {
    No,
    Yes,
}

/// Whether more of a stream is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Wanted,
    Enough,
}

fn broken(error: &dyn std::error::Error) -> CliError {
    CliError::new(format!("the connection to the daemon broke: {error}"))
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, CliError> {
    Ok(answer.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes())
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|error| {
        CliError::new(format!("the daemon's answer cannot be understood: {error}"))
    })
}

/// Makes an error of an answer that is one.
fn check(status: StatusCode, bytes: &[u8]) -> Result<(), CliError> {
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(());
    }
    let said = serde_json::from_slice::<Value>(bytes).ok();
    let said = said.as_ref().and_then(|value| value["message"].as_str());
    let message = said.map_or_else(|| format!("the daemon answered {status}"), str::to_owned);
    Err(match status {
        StatusCode::NOT_FOUND => CliError::not_found(message),
        _ => CliError::new(message),
    })
}

/// A name as it stands in a path.
pub(crate) fn encoded(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/:@".contains(&byte);
    text.bytes()
        .map(|byte| match safe(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// Passes input on to a connection, and output from it, until the output ends.
async fn pass_on(taken: Upgraded, typing: Typing, framed: Framed) -> Result<(), CliError> {
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(taken));
    let typed = tokio::spawn(async move {
        if typing == Typing::Yes {
            // Whichever ends first; the output goes on.
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut writer).await;
            let _ = writer.shutdown().await;
        }
        // The connection stays open for the output.
        std::future::pending::<()>().await;
    });
    let mut frames = Frames::new(framed);
    let mut buffer = vec![0; 64 << 10];
    let done = loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(count) => frames.pass_on(&buffer[..count]),
            Err(error) => break Err(broken(&error)),
        }
    };
    typed.abort();
    done
}

/// Output that comes in docker's frames: eight bytes of head, then what it says.
pub(crate) struct Frames {
    framed: Framed,
    waiting: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(framed: Framed) -> Frames {
        Frames { framed, waiting: Vec::new() }
    }

    /// Prints what is whole, each frame to the stream that it is of.
    pub(crate) fn pass_on(&mut self, bytes: &[u8]) {
        if self.framed == Framed::No {
            output::raw(bytes);
            return;
        }
        self.waiting.extend_from_slice(bytes);
        let mut rest = self.waiting.as_slice();
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let Some((content, after)) = after.split_at_checked(length) else { break };
            match head[0] {
                // What cannot be printed there cannot be reported there either.
                2 => drop(io::stderr().write_all(content)),
                _ => output::raw(content),
            }
            rest = after;
        }
        let left = rest.len();
        let whole = self.waiting.len() - left;
        self.waiting.drain(..whole);
    }
}

/// How long a daemon that is ending, or being started by somebody else, is waited for.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long until the next attempt.
const AGAIN: Duration = Duration::from_millis(100);

/// Starts a daemon that outlives this command, and waits until one answers: another command may have
/// started it at the same time, or one may be ending.
fn start(app: &App) -> Result<(), CliError> {
    let begun = Instant::now();
    loop {
        let failed = match spawn(app) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if Client::running(app).is_some() {
            return Ok(());
        }
        let held = app.machine.root.join("daemon.lock");
        let is_held = std::fs::File::open(held).is_ok_and(|lock| lock.try_lock().is_err());
        if !is_held || begun.elapsed() > PATIENCE {
            return Err(failed);
        }
        std::thread::sleep(AGAIN);
    }
}

fn spawn(app: &App) -> Result<(), CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::new(format!("cannot find this program: {error}")))?;
    crate::launch::own_state(app)?;
    let log = app.machine.state.join("daemon.log");
    let failed = |error: io::Error| CliError::new(format!("cannot start the daemon: {error}"));
    let file = std::fs::File::options().create(true).append(true).open(&log).map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("--root").arg(&app.machine.root).arg("--state").arg(&app.machine.state);
    command.args(app.configured.iter().flat_map(|path| [Path::new("--config"), path]));
    command.arg("daemon").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    // Signals of this terminal are not for it.
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let mut line = String::new();
    let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    match said {
        Some(Ok(1..)) => Ok(()),
        _ => {
            let why = std::fs::read_to_string(&log).unwrap_or_default();
            let why = why.lines().last().unwrap_or("it says nothing").to_owned();
            Err(CliError::new(format!("the daemon does not start: {why}"))
                .hint(format!("{} has more; `mote daemon` shows it here", log.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_put_together_wherever_they_were_cut() {
        let mut frames = Frames::new(Framed::Yes);
        let whole = b"\x02\0\0\0\0\0\0\x01x\x02\0\0\0\0\0\0\x02yz";
        for piece in whole.chunks(3) {
            frames.pass_on(piece);
        }
        assert!(frames.waiting.is_empty());
        frames.pass_on(&whole[..5]);
        assert_eq!(frames.waiting.len(), 5);
    }

    #[test]
    fn names_are_written_so_that_a_path_stays_one() {
        assert_eq!(encoded("a b?c#d%"), "a%20b%3Fc%23d%25");
        assert_eq!(encoded("localhost:5000/x@sha256:ab"), "localhost:5000/x@sha256:ab");
    }
}
