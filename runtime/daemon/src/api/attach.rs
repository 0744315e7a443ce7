//! Connects a client to a container's standard streams: the connection is taken over for that.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mote_lifecycle::{Stdin, Stream, Talks, Wish};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::answer::{self, Answer, Pieces, Reply};
use super::logs::{self, Shown};
use super::terminal::{self, Discipline, Typed};
use super::{Call, Peer};
use crate::console::Chunk;
use crate::entry::Entry;
use crate::error::DaemonError;

/// A client's end of a connection that was taken over.
pub(crate) type Taken = TokioIo<Upgraded>;

/// Which streams a client wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Wants {
    pub(crate) fn stream(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// Says that the connection is taken over, and how it is had.
pub(crate) fn take_over(
    request: &mut Request<()>,
    talks: Talks,
) -> Result<(Answer, OnUpgrade), DaemonError> {
    let asked = request.headers().get(UPGRADE).is_some();
    if !asked {
        return Err(DaemonError::BadRequest(
            "this takes the connection over: ask for it with `Upgrade: tcp`".to_owned(),
        ));
    }
    let taken = hyper::upgrade::on(request);
    let mut reply = answer::with(
        StatusCode::SWITCHING_PROTOCOLS,
        logs::media_type(talks),
        answer::done().into_body(),
    );
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    reply.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
    Ok((reply, taken))
}

/// `POST /containers/ID/attach`
pub(crate) async fn attach(mut call: Call, id: &str) -> Reply {
    let entry = call.daemon.find(id)?;
    let record = entry.record();
    let talks = record.setup.terminal;
    let wants = Wants { stdout: call.query.flag("stdout"), stderr: call.query.flag("stderr") };
    let input = call.query.flag("stdin") && record.setup.stdin != Stdin::Closed;
    // A client whose own terminal reads lines says so; docker's turns that off.
    let cooked = call.query.flag("cooked");
    let (past, live) = (call.query.flag("logs"), call.query.flag("stream"));
    let peer = Arc::clone(&call.peer);
    // Before the answer: what is printed after it must not be missed.
    let (log, printed) = match (past, live) {
        (false, true) => (None, Some(entry.console.listen())),
        (false, false) => (None, None),
        (true, _) => {
            let console = Arc::clone(&entry.console);
            let opened = tokio::task::spawn_blocking(move || console.listen_after()).await;
            let opened = opened.map_err(|_| DaemonError::Failed("attaching failed".to_owned()))?;
            let (log, printed) = opened
                .map_err(|error| DaemonError::Failed(format!("the log cannot be read: {error}")))?;
            (Some(log), live.then_some(printed))
        }
    };
    let (reply, taken) = take_over(&mut call.request, talks)?;
    tokio::spawn(async move {
        let Ok(taken) = taken.await else { return };
        let (reader, mut writer) = tokio::io::split(TokioIo::new(taken));
        let shown = Shown { talks, stdout: wants.stdout, stderr: wants.stderr, times: false };
        if let Some(log) = log {
            let mut past = Pieces::of(move |pipe| shown.write(log, Wish::default(), pipe));
            while let Some(piece) = past.next().await {
                if writer.write_all(&piece).await.is_err() {
                    return;
                }
            }
        }
        let typing = async {
            let keys = match talks {
                Talks::Terminal if !cooked => Keys::Raw(Discipline::default()),
                Talks::Terminal | Talks::Streams => Keys::AsTheyAre,
            };
            if input && type_into(&entry, reader, keys).await == Client::Leaves {
                return;
            }
            // The client stays for the output.
            std::future::pending::<()>().await;
        };
        let Some(printed) = printed else { return };
        tokio::select! {
            () = show(printed, &mut writer, talks, wants) => {}
            () = typing => {}
            () = hung_up(&peer) => {}
        }
        let _ = writer.shutdown().await;
    });
    Ok(reply)
}

/// How often a client that says nothing is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Waits until a client has closed both ways of its connection. One that has only ended its input is
/// still there, so that reading does not tell.
pub(crate) async fn hung_up(peer: &Peer) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    loop {
        tokio::time::sleep(LOOK).await;
        let mut looked = [PollFd::new(&**peer, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = poll(&mut looked, Some(&at_once));
        if polled.is_ok() && looked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return;
        }
    }
}

/// How what a client types is to be read.
enum Keys {
    AsTheyAre,
    /// Key by key: there is no terminal behind the client's that makes lines of them.
    Raw(Discipline),
}

/// What becomes of a client when it types no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Stays,
    Leaves,
}

/// Passes on what is typed, until the client's end of it.
async fn type_into(entry: &Arc<Entry>, mut reader: ReadHalf<Taken>, mut keys: Keys) -> Client {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let typed = match &mut keys {
            Keys::AsTheyAre => vec![Typed::Input(buffer[..count].to_vec())],
            Keys::Raw(line) => line.take(&buffer[..count]),
        };
        for typed in typed {
            match typed {
                // A guest that has ended reads no more, and the output ends with it.
                Typed::Input(bytes) if entry.console.write_input(&bytes).await.is_err() => {
                    return Client::Stays;
                }
                Typed::Input(_) => {}
                Typed::Echo(bytes) => entry.console.echo(&bytes),
                Typed::Interrupt => {
                    // One that has ended needs no stop.
                    let _ = entry.container.stop().await;
                }
                Typed::End => entry.console.close_input().await,
                Typed::Detach => return Client::Leaves,
            }
        }
    }
    // A person at a terminal who goes has detached: docker's client ends its input for that.
    if let Keys::Raw(_) = keys {
        return Client::Leaves;
    }
    if entry.record().setup.stdin == Stdin::Once {
        entry.console.close_input().await;
    }
    Client::Stays
}

/// Passes on what is printed, until the run or the client ends.
pub(crate) async fn show(
    mut printed: mpsc::Receiver<Chunk>,
    writer: &mut WriteHalf<Taken>,
    talks: Talks,
    wants: Wants,
) {
    while let Some(chunk) = printed.recv().await {
        if !wants.stream(chunk.stream) {
            continue;
        }
        let framed = match talks {
            Talks::Terminal => terminal::output(&chunk.bytes).into(),
            Talks::Streams => logs::frame(talks, chunk.stream, &chunk.bytes),
        };
        if writer.write_all(&framed).await.is_err() {
            return;
        }
        // What waits is sent together.
        if printed.is_empty() && writer.flush().await.is_err() {
            return;
        }
    }
}
