//! Shapes answers: JSON, text, streams, and connections that are taken over.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::DaemonError;

/// The body of an answer.
pub(crate) type Body = BoxBody<Bytes, io::Error>;
pub(crate) type Answer = Response<Body>;
pub(crate) type Reply = Result<Answer, DaemonError>;

/// How many pieces of a stream may wait for its client.
const AHEAD: usize = 16;

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub(crate) fn with(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static(super::API_VERSION));
    headers.insert("Server", HeaderValue::from_static(concat!("mote/", env!("CARGO_PKG_VERSION"))));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    if !kind.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    answer
}

/// JSON, and 200.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value).expect("an answer is always JSON");
    with(status, "application/json", whole(bytes))
}

pub(crate) fn text(text: String) -> Answer {
    with(StatusCode::OK, "text/plain; charset=utf-8", whole(text))
}

/// Nothing but 200.
pub(crate) fn empty() -> Answer {
    with(StatusCode::OK, "", whole(Bytes::new()))
}

/// Nothing but 204.
pub(crate) fn done() -> Answer {
    with(StatusCode::NO_CONTENT, "", whole(Bytes::new()))
}

/// What a stream is written to.
pub(crate) struct Writer(Sender<Bytes, io::Error>);

impl Writer {
    /// Sends a piece; false if the client has gone.
    pub(crate) async fn send(&mut self, bytes: impl Into<Bytes>) -> bool {
        self.0.send_data(bytes.into()).await.is_ok()
    }

    /// Sends a line of JSON.
    pub(crate) async fn line(&mut self, value: &Value) -> bool {
        self.send(format!("{value}\r\n")).await
    }

    /// Breaks the stream off: its client must not take it for whole.
    pub(crate) fn abort(self, why: String) {
        tracing::warn!(why, "an answer is broken off");
        self.0.abort(io::Error::other(why));
    }
}

/// An answer that goes on for as long as `write` does, or until its client goes.
pub(crate) fn stream<F>(kind: &'static str, write: impl FnOnce(Writer) -> F) -> Answer
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, body) = Channel::<Bytes, io::Error>::new(AHEAD);
    let work = tokio::spawn(write(Writer(sender)));
    // A client that goes takes the work along, also while it has nothing to say.
    let body = Streamed { body, _work: AbortOnDrop(work.abort_handle()) };
    with(StatusCode::OK, kind, body.boxed())
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Streamed {
    body: Channel<Bytes, io::Error>,
    _work: AbortOnDrop,
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

/// How many bytes a piece of a piped answer has.
const PIECE: usize = 64 << 10;

/// An answer that is written on a thread of its own, since writing it waits for the disk.
pub(crate) fn piped(
    kind: &'static str,
    write: impl FnOnce(&mut Pipe) -> Result<(), String> + Send + 'static,
) -> Answer {
    let mut pieces = Pieces::of(write);
    stream(kind, move |mut writer| async move {
        while let Some(piece) = pieces.next().await {
            if !writer.send(piece).await {
                return;
            }
        }
        if let Err(why) = pieces.end().await {
            writer.abort(why);
        }
    })
}

/// What is written on a thread of its own, piece by piece.
pub(crate) struct Pieces {
    waiting: mpsc::Receiver<Bytes>,
    work: JoinHandle<Result<(), String>>,
}

impl Pieces {
    pub(crate) fn of(
        write: impl FnOnce(&mut Pipe) -> Result<(), String> + Send + 'static,
    ) -> Pieces {
        let (pieces, waiting) = mpsc::channel(AHEAD);
        let work = tokio::task::spawn_blocking(move || {
            let mut pipe = Pipe { pieces, piece: Vec::new() };
            write(&mut pipe)?;
            io::Write::flush(&mut pipe).map_err(|error| error.to_string())
        });
        Pieces { waiting, work }
    }

    /// The next piece, until all is written or writing failed.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.waiting.recv().await
    }

    /// Whether all was written.
    pub(crate) async fn end(self) -> Result<(), String> {
        self.work.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Where a piped answer is written to; fails when its client has gone.
pub(crate) struct Pipe {
    pieces: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
