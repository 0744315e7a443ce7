//! What a guest's standard streams are connected to.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::cli::{AsyncStdinStream, IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamResult};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        Output::Sink(sink) => builder.stdout(Sunk { sink: Arc::clone(sink), terminal }),
    };
    match error {
        Output::Inherit => builder.stderr(Veiled { inner: io::stderr(), terminal }),
        Output::Memory(captured) => builder.stderr(captured.0.clone()),
        Output::Sink(sink) => builder.stderr(Sunk { sink: Arc::clone(sink), terminal }),
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

/// The guest's end of a sink.
#[derive(Clone)]
struct Sunk {
    sink: Arc<dyn Sink>,
    terminal: Terminal,
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
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Sunk {
    async fn ready(&mut self) {
        Arc::clone(&self.sink).room().await;
    }
}

impl OutputStream for Sunk {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.sink.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.sink.has_room() { AT_ONCE } else { 0 })
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
