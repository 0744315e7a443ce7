//! The standard streams of a task, as containerd names them: fifos of its own, or files.
//!
//! A fifo of output is opened for both ways, once it has a reader: one that goes and comes back, as containerd
//! does when it is replaced, finds what was written in between.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mote_engine::{Feed, Input, Output, Room, Sink, Stdio, Terminal};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::error::ShimError;
use crate::fifo::{Fifo, PATIENCE};
use crate::logger::{self, Logger};
use crate::paths::Paths;
use crate::presence::Presence;

/// How many pieces of output may wait to be written, and how many bytes of input for the guest.
const AHEAD: usize = 32;
const TYPED_AHEAD: usize = 64 << 10;
/// How much of another process's output is read at once.
const PIECE: usize = 16 << 10;

/// The streams of one process, open.
pub(crate) struct Streams {
    input: Option<DuplexStream>,
    output: Option<mpsc::Sender<Bytes>>,
    error: Option<mpsc::Sender<Bytes>>,
    /// What writes; it goes on when this is dropped, until all is written.
    pumps: Vec<JoinHandle<()>>,
    /// What comes from a guest in another process.
    passing: Vec<JoinHandle<()>>,
    _typing: Option<Typing>,
}

/// What passes input on; nobody may ever have written any. It ends with the streams.
struct Typing(JoinHandle<()>);

impl Drop for Typing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends the input of a process: there is nothing behind what is in its fifo.
#[derive(Clone, Default)]
pub(crate) struct EndOfInput(Arc<Notify>);

impl EndOfInput {
    pub(crate) fn tell(&self) {
        self.0.notify_one();
    }
}

impl Streams {
    /// # Errors
    /// Fails if a fifo or a file cannot be opened.
    pub(crate) fn open(
        paths: &Paths,
        end: &EndOfInput,
        presence: &Presence,
    ) -> Result<Streams, ShimError> {
        let (mut pumps, mut typing) = (Vec::new(), None);
        let input = match paths.stdin.as_str() {
            "" => None,
            path => {
                // Its end is that of its writers, as soon as there has been one.
                let fifo = pipe::OpenOptions::new().open_receiver(path);
                let fifo = fifo.map_err(|source| ShimError::File { path: path.into(), source })?;
                let (ours, theirs) = tokio::io::duplex(TYPED_AHEAD);
                typing = Some(Typing(tokio::spawn(type_into(fifo, ours, end.clone()))));
                Some(theirs)
            }
        };
        let (output, error) = match logger::address(&paths.stdout) {
            Some(address) => {
                let Logger { stdout, stderr } = logger::start(address, paths)?;
                (Some(pipe_writer(stdout)?), Some(pipe_writer(stderr)?))
            }
            None => (writer(&paths.stdout)?, writer(&paths.stderr)?),
        };
        let output = output.map(|to| pump(&mut pumps, (to, presence)));
        // To a terminal all is one.
        let error = match paths.terminal {
            true => output.clone(),
            false => error.map(|to| pump(&mut pumps, (to, presence))),
        };
        Ok(Streams { input, output, error, pumps, passing: Vec::new(), _typing: typing })
    }

    /// What the guest gets of them.
    pub(crate) fn stdio(&mut self, terminal: bool) -> Stdio {
        let sink = |to: &Option<mpsc::Sender<Bytes>>, name| match to {
            Some(to) => Output::Sink(Arc::new(Tap { to: to.clone(), name }) as Arc<dyn Sink>),
            None => Output::Sink(Arc::new(Nowhere) as Arc<dyn Sink>),
        };
        Stdio {
            input: self.input.take().map_or(Input::Empty, |feed| Input::Feed(Feed::new(feed))),
            output: sink(&self.output, "standard output"),
            error: sink(&self.error, "standard error"),
            terminal: if terminal { Terminal::AsIs } else { Terminal::No },
        }
    }

    /// What a guest in a process of its own gets of them, which passes through this process.
    ///
    /// # Errors
    /// Fails if there are no files to be had.
    pub(crate) fn pipes(&mut self) -> io::Result<[OwnedFd; 3]> {
        let input = match self.input.take() {
            None => std::fs::File::open("/dev/null")?.into(),
            Some(mut typed) => {
                let (theirs, ours) = io::pipe()?;
                let mut ours = pipe::Sender::from_owned_fd(ours.into())?;
                // It ends with what is typed, or with the guest, which needs no more.
                tokio::spawn(async move { tokio::io::copy(&mut typed, &mut ours).await });
                theirs.into()
            }
        };
        let output = passed_on(&mut self.passing, self.output.as_ref())?;
        let error = passed_on(&mut self.passing, self.error.as_ref())?;
        Ok([input, output, error])
    }

    /// Prints lines that are not the guest's own, after all that it has printed, and waits until it is all
    /// written, if somebody reads it.
    pub(crate) async fn end(mut self, printed: &[String], explained: &[String]) {
        self.written(printed, explained).await;
    }

    /// Ends within bounds, whoever reads.
    fn written(
        &mut self,
        printed: &[String],
        explained: &[String],
    ) -> impl Future<Output = ()> + use<> {
        let (output, error) = (self.output.take(), self.error.take());
        let mut passing = std::mem::take(&mut self.passing);
        let mut pumps = std::mem::take(&mut self.pumps);
        let (printed, explained) = (printed.to_vec(), explained.to_vec());
        async move {
            let all = async {
                // What came through pipes; nobody has their other ends any more.
                for passing in &mut passing {
                    // One that failed has said why.
                    let _ = passing.await;
                }
                say(output, &printed).await;
                say(error, &explained).await;
                for pump in &mut pumps {
                    let _ = pump.await;
                }
            };
            if tokio::time::timeout(PATIENCE, all).await.is_err() {
                passing.iter().chain(&pumps).for_each(JoinHandle::abort);
                tracing::warn!("some output is lost: nobody reads it");
            }
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // Those of a guest that was killed; where no events are any more, nothing is written either.
        if !self.pumps.is_empty()
            && let Ok(events) = tokio::runtime::Handle::try_current()
        {
            events.spawn(self.written(&[], &[]));
        }
    }
}

/// A pipe whose output is passed on.
fn passed_on(
    passing: &mut Vec<JoinHandle<()>>,
    to: Option<&mpsc::Sender<Bytes>>,
) -> io::Result<OwnedFd> {
    let Some(to) = to.cloned() else {
        return Ok(std::fs::File::options().write(true).open("/dev/null")?.into());
    };
    let (ours, theirs) = io::pipe()?;
    let mut ours = pipe::Receiver::from_owned_fd(ours.into())?;
    passing.push(tokio::spawn(async move {
        let mut piece = BytesMut::with_capacity(PIECE);
        while let Ok(1..) = ours.read_buf(&mut piece).await {
            if to.send(piece.split().freeze()).await.is_err() {
                return;
            }
            piece.reserve(PIECE);
        }
    }));
    Ok(theirs.into())
}

/// Prints lines to a stream, and lets go of it.
async fn say(to: Option<mpsc::Sender<Bytes>>, lines: &[String]) {
    let Some(to) = to else { return };
    for line in lines {
        // Nobody may be reading any more.
        let _ = to.send(Bytes::from(format!("{line}\n"))).await;
    }
}

/// What output is written to.
pub(crate) enum Writer {
    File(Box<dyn AsyncWrite + Send + Unpin>),
    /// A fifo, which is opened when there is a reader.
    Fifo(String),
    /// For both ways, and what has been written to it.
    Read(pipe::Sender, Option<Fifo>),
}

impl Writer {
    /// Waits until somebody reads. What nobody reads is kept as far as the fifo holds it.
    pub(crate) async fn begin(&mut self) -> io::Result<()> {
        if let Writer::Fifo(path) = self {
            let fifo = Fifo::with_reader(path).await?;
            let to = pipe::OpenOptions::new().read_write(true).open_sender(path.as_str())?;
            *self = Writer::Read(to, fifo);
        }
        Ok(())
    }

    pub(crate) async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.begin().await?;
        match self {
            Writer::File(to) => to.write_all(piece).await,
            Writer::Read(to, _) => to.write_all(piece).await,
            Writer::Fifo(_) => unreachable!("it has begun"),
        }
    }

    /// Waits until all is where it belongs.
    pub(crate) async fn end(self) -> io::Result<()> {
        match self {
            Writer::File(mut to) => to.flush().await?,
            Writer::Read(to, Some(fifo)) => {
                drop(to);
                fifo.until_read().await;
            }
            Writer::Read(_, None) | Writer::Fifo(_) => {}
        }
        Ok(())
    }
}

fn pipe_writer(end: OwnedFd) -> Result<Writer, ShimError> {
    let failed = |source| ShimError::System { what: "write to a pipe", source };
    Ok(Writer::File(Box::new(pipe::Sender::from_owned_fd(end).map_err(failed)?)))
}

/// Opens what a terminal is shown at: a program that keeps it, a fifo or a file.
pub(crate) fn shown(paths: &Paths) -> Result<Option<Writer>, ShimError> {
    match logger::address(&paths.stdout) {
        Some(address) => pipe_writer(logger::start(address, paths)?.stdout).map(Some),
        None => writer(&paths.stdout),
    }
}

/// Opens what output is written to.
fn writer(uri: &str) -> Result<Option<Writer>, ShimError> {
    let failed = |path: &str, source: io::Error| ShimError::File { path: path.into(), source };
    match uri.split_once("://") {
        None if uri.is_empty() => Ok(None),
        None => {
            std::fs::metadata(uri).map_err(|source| failed(uri, source))?;
            Ok(Some(Writer::Fifo(uri.to_owned())))
        }
        Some(("fifo", path)) => writer(path),
        Some(("file", path)) => {
            let path = PathBuf::from(path.split('?').next().unwrap_or(path));
            if let Some(folder) = path.parent() {
                let made = std::fs::create_dir_all(folder);
                made.map_err(|source| ShimError::File { path: folder.to_owned(), source })?;
            }
            let file = std::fs::File::options().create(true).append(true).open(&path);
            let file = file.map_err(|source| ShimError::File { path, source })?;
            Ok(Some(Writer::File(Box::new(tokio::fs::File::from_std(file)))))
        }
        Some((scheme, _)) => Err(ShimError::Invalid(format!(
            "output cannot go to {scheme}://: fifos, file:// and binary:// are understood"
        ))),
    }
}

/// Writes what comes, until nobody sends any more.
fn pump(
    pumps: &mut Vec<JoinHandle<()>>,
    (mut to, presence): (Writer, &Presence),
) -> mpsc::Sender<Bytes> {
    let (sender, mut pieces) = mpsc::channel::<Bytes>(AHEAD);
    let presence = presence.clone();
    let writing = async move {
        let _presence = presence;
        let all = async {
            to.begin().await?;
            while let Some(piece) = pieces.recv().await {
                to.write(&piece).await?;
            }
            to.end().await
        };
        if let Err(error) = all.await {
            tracing::warn!(%error, "output is lost");
        }
    };
    pumps.push(tokio::spawn(writing));
    sender
}

/// Passes on what is typed, until its end is told or the guest's.
async fn type_into(mut fifo: pipe::Receiver, mut guest: DuplexStream, end: EndOfInput) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = tokio::select! {
            biased;
            read = fifo.read(&mut buffer) => read.unwrap_or(0),
            () = end.0.notified() => break,
        };
        if count == 0 || guest.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // What was typed before its end may still be in the fifo.
    while let Ok(count @ 1..) = fifo.try_read(&mut buffer) {
        if guest.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

struct Tap {
    to: mpsc::Sender<Bytes>,
    name: &'static str,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of a task", self.name)
    }
}

impl Sink for Tap {
    fn take(&self, bytes: &[u8]) {
        // There was room; a writer that is gone gets nothing more.
        let _ = self.to.try_send(Bytes::copy_from_slice(bytes));
    }

    fn has_room(&self) -> bool {
        self.to.capacity() > 0 || self.to.is_closed()
    }

    fn room(self: Arc<Self>) -> Room {
        Box::pin(async move {
            // One that is gone leaves room too.
            drop(self.to.reserve().await);
        })
    }
}

/// Where output goes that nobody wants.
#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    fn take(&self, _: &[u8]) {}

    fn has_room(&self) -> bool {
        true
    }

    fn room(self: Arc<Self>) -> Room {
        Box::pin(std::future::ready(()))
    }
}
