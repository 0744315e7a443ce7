//! What a guest's standard streams are connected to.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::cli::{AsyncStdinStream, IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Where a guest's input comes from.
#[derive(Debug, Clone)]
pub enum Input {
    /// At its end from the start.
    Empty,
    /// This process's own.
    Inherit,
    Feed(Feed),
}

/// Input that somebody in this process writes.
#[derive(Clone)]
pub struct Feed(Arc<AsyncStdinStream>);

impl Feed {
    /// Reads from a stream, which ends when the guest's input does.
    pub fn new(stream: impl AsyncRead + Send + Sync + 'static) -> Feed {
        Feed(Arc::new(AsyncStdinStream::new(stream)))
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

/// What takes a guest's output as it comes, such as a log or a connection.
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Takes bytes, and never blocks. There was room when it was last asked.
    fn take(&self, bytes: &[u8]);
    /// Whether it has room for more now.
    fn has_room(&self) -> bool;
    /// Waits until it has room.
    fn room(self: Arc<Self>) -> Room;
}

/// The wait for room in a sink.
pub type Room = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Where a guest's output goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// This process's own.
    Inherit,
    /// Memory, up to a bound.
    Memory(Captured),
    Sink(Arc<dyn Sink>),
}

/// Whether a guest is told that it talks to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terminal {
    No,
    /// It is told so of those streams that really are one; a feed and a sink count as such.
    AsIs,
    /// It is told so of every stream.
    Yes,
}

/// The standard streams of a guest.
#[derive(Debug, Clone)]
pub struct Stdio {
    pub input: Input,
    pub output: Output,
    pub error: Output,
    pub terminal: Terminal,
}

impl Stdio {
    /// Whether a guest in another process, which gets pipes for feeds and sinks, is told of a terminal.
    pub(crate) fn terminal_of_pipes(&self) -> Terminal {
        let is_pipe = matches!(self.input, Input::Feed(_))
            || matches!(self.output, Output::Sink(_))
            || matches!(self.error, Output::Sink(_));
        match self.terminal {
            Terminal::AsIs if is_pipe => Terminal::Yes,
            terminal => terminal,
        }
    }

    /// Files of the same streams for another process, and what passes on to and from them: it is done when
    /// the other ends of the output are closed.
    pub(crate) fn pipes(&self) -> io::Result<([OwnedFd; 3], impl Future<Output = ()> + use<>)> {
        let input = match &self.input {
            Input::Empty => File::open("/dev/null")?.into(),
            Input::Inherit => io::stdin().as_fd().try_clone_to_owned()?,
            Input::Feed(feed) => {
                let (theirs, ours) = io::pipe()?;
                let mut ours = pipe::Sender::from_owned_fd(ours.into())?;
                let mut typed = Box::into_pin(feed.0.async_stream());
                // It ends with what is typed, or with the guest, which needs no more.
                tokio::spawn(async move { tokio::io::copy(&mut typed, &mut ours).await });
                theirs.into()
            }
        };
        let (output, passing_output) = self.output.pipe(io::stdout().as_fd())?;
        let (error, passing_error) = self.error.pipe(io::stderr().as_fd())?;
        Ok(([input, output, error], async {
            tokio::join!(passing_output, passing_error);
        }))
    }
}

/// Passes on what comes from a pipe, with a turn for others after every piece: what takes it works on the
/// thread that runs guests.
async fn pass_on(
    mut from: pipe::Receiver,
    mut to: Pin<Box<dyn AsyncWrite + Send + Sync>>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&piece[..length]).await?;
        tokio::task::yield_now().await;
    }
}

/// How much is passed on at once.
const PIECE: usize = 16 << 10;

impl Output {
    /// A file for another process that leads here, and what passes on what is written to it.
    fn pipe(&self, own: BorrowedFd<'_>) -> io::Result<(OwnedFd, impl Future<Output = ()> + use<>)> {
        let to: Option<Box<dyn AsyncWrite + Send + Sync>> = match self {
            Output::Inherit => None,
            Output::Memory(captured) => Some(captured.0.async_stream()),
            Output::Sink(sink) => {
                Some(Box::new(SinkWriter { sink: Arc::clone(sink), waiting: None }))
            }
        };
        let (file, passed) = match to {
            None => (own.try_clone_to_owned()?, None),
            Some(to) => {
                let (ours, theirs) = io::pipe()?;
                (theirs.into(), Some((pipe::Receiver::from_owned_fd(ours.into())?, to)))
            }
        };
        Ok((file, async {
            if let Some((from, to)) = passed {
                // A sink takes all, and memory as much as it may.
                let _ = pass_on(from, Box::into_pin(to)).await;
            }
        }))
    }
}

/// Output that is kept in memory.
#[derive(Debug, Clone)]
pub struct Captured(MemoryOutputPipe);

impl Captured {
    /// Keeps at most so many bytes; beyond them the guest's writes fail.
    pub fn new(most: usize) -> Captured {
        Captured(MemoryOutputPipe::new(most))
    }

    /// What was written so far.
    pub fn contents(&self) -> Vec<u8> {
        self.0.contents().to_vec()
    }
}

/// Connects the streams.
pub(crate) fn connect(builder: &mut WasiCtxBuilder, stdio: &Stdio) {
    let Stdio { input, output, error, terminal } = stdio;
    let terminal = *terminal;
    match input {
        Input::Empty => {}
        Input::Inherit => {
            builder.stdin(Veiled { inner: io::stdin(), terminal });
        }
        Input::Feed(feed) => {
            builder.stdin(Veiled { inner: Fed(Arc::clone(&feed.0)), terminal });
        }
    }
    match output {
        Output::Inherit => builder.stdout(Veiled { inner: io::stdout(), terminal }),
        Output::Memory(captured) => builder.stdout(captured.0.clone()),
        Output::Sink(sink) => {
            builder.stdout(Sunk { sink: Arc::clone(sink), terminal, in_a_row: 0, permit: 0 })
        }
    };
    match error {
        Output::Inherit => builder.stderr(Veiled { inner: io::stderr(), terminal }),
        Output::Memory(captured) => builder.stderr(captured.0.clone()),
        Output::Sink(sink) => {
            builder.stderr(Sunk { sink: Arc::clone(sink), terminal, in_a_row: 0, permit: 0 })
        }
    };
}

/// The guest's end of a feed.
struct Fed(Arc<AsyncStdinStream>);

impl IsTerminal for Fed {
    fn is_terminal(&self) -> bool {
        true
    }
}

impl StdinStream for Fed {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.0.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.0.p2_stream()
    }
}

/// How much a guest may write at once.
const AT_ONCE: usize = 32 << 10;

/// How much a guest may write before others have a turn: what takes it works on the guest's thread.
const IN_A_ROW: usize = 256 << 10;

/// The guest's end of a sink.
struct Sunk {
    sink: Arc<dyn Sink>,
    terminal: Terminal,
    /// What was written since others had a turn.
    in_a_row: usize,
    /// How much the guest was told that it may write.
    permit: usize,
}

impl IsTerminal for Sunk {
    fn is_terminal(&self) -> bool {
        self.terminal != Terminal::No
    }
}

impl StdoutStream for Sunk {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(SinkWriter { sink: Arc::clone(&self.sink), waiting: None })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Sunk {
            sink: Arc::clone(&self.sink),
            terminal: self.terminal,
            in_a_row: 0,
            permit: 0,
        })
    }
}

#[async_trait::async_trait]
impl Pollable for Sunk {
    async fn ready(&mut self) {
        if self.in_a_row >= IN_A_ROW {
            tokio::task::yield_now().await;
            self.in_a_row = 0;
        }
        Arc::clone(&self.sink).room().await;
    }
}

impl OutputStream for Sunk {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // A guest may write without asking how much.
        if bytes.len() > self.permit {
            return Err(StreamError::trap("a write of more than there was room for"));
        }
        self.permit -= bytes.len();
        self.in_a_row += bytes.len();
        self.sink.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let may = self.in_a_row < IN_A_ROW && self.sink.has_room();
        self.permit = if may { AT_ONCE } else { 0 };
        Ok(self.permit)
    }
}

/// A sink as WASI 0.3 writes to it.
struct SinkWriter {
    sink: Arc<dyn Sink>,
    waiting: Option<Room>,
}

impl AsyncWrite for SinkWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            if self.sink.has_room() {
                let length = bytes.len().min(AT_ONCE);
                self.sink.take(&bytes[..length]);
                return Poll::Ready(Ok(length));
            }
            self.waiting = Some(Arc::clone(&self.sink).room());
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream that may hide that it is a terminal.
struct Veiled<S> {
    inner: S,
    terminal: Terminal,
}

impl<S: IsTerminal> IsTerminal for Veiled<S> {
    fn is_terminal(&self) -> bool {
        match self.terminal {
            Terminal::No => false,
            Terminal::AsIs => self.inner.is_terminal(),
            Terminal::Yes => true,
        }
    }
}

impl<S: StdinStream> StdinStream for Veiled<S> {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.inner.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.inner.p2_stream()
    }
}

impl<S: StdoutStream> StdoutStream for Veiled<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        self.inner.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        self.inner.p2_stream()
    }
}
