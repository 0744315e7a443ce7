//! Speaks to the daemon over its API, and starts it where a command needs one.

mod body;
mod frames;
mod starter;

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::BodyExt;
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

pub(crate) use body::Body;
pub(crate) use frames::{Framed, Frames};

/// The daemon of this machine, as a client of its API sees it.
pub(crate) struct Client {
    socket: PathBuf,
}

/// Whether input is passed on to what is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
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
                starter::start(app)?;
                Ok(Client { socket: daemon_socket(app) })
            }
        }
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
        let (kind, bytes) = body.sent();
        let request = request
            .header(CONTENT_TYPE, kind)
            .body(bytes)
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
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        // A file that cannot be read while it is sent, say.
        why = format!("{why}: {next}");
        cause = next.source();
    }
    CliError::new(format!("the connection to the daemon broke: {why}"))
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
        StatusCode::NOT_FOUND if message.starts_with("No such container:") => {
            CliError::not_found(message).hint("`mote ps --all` lists what is here")
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_so_that_a_path_stays_one() {
        assert_eq!(encoded("a b?c#d%"), "a%20b%3Fc%23d%25");
        assert_eq!(encoded("localhost:5000/x@sha256:ab"), "localhost:5000/x@sha256:ab");
    }
}
