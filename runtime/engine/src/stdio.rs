//! What a guest's standard streams are connected to.

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream};

/// Where a guest's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// At its end from the start.
    Empty,
    /// This process's own.
    Inherit,
}

/// Where a guest's output goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// This process's own.
    Inherit,
    /// Memory, up to a bound.
    Memory(Captured),
}

/// Whether a guest is told that it talks to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    No,
    /// It is told so of those streams that really are one.
    AsIs,
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
    match stdio.input {
        Input::Empty => {}
        Input::Inherit => {
            builder.stdin(Veiled { inner: std::io::stdin(), terminal: stdio.terminal });
        }
    }
    match &stdio.output {
        Output::Inherit => {
            builder.stdout(Veiled { inner: std::io::stdout(), terminal: stdio.terminal })
        }
        Output::Memory(captured) => builder.stdout(captured.0.clone()),
    };
    match &stdio.error {
        Output::Inherit => {
            builder.stderr(Veiled { inner: std::io::stderr(), terminal: stdio.terminal })
        }
        Output::Memory(captured) => builder.stderr(captured.0.clone()),
    };
}

/// A stream that may hide that it is a terminal.
struct Veiled<S> {
    inner: S,
    terminal: Terminal,
}

impl<S: IsTerminal> IsTerminal for Veiled<S> {
    fn is_terminal(&self) -> bool {
        self.terminal == Terminal::AsIs && self.inner.is_terminal()
    }
}

impl<S: StdinStream> StdinStream for Veiled<S> {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncRead + Send + Sync> {
        self.inner.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.inner.p2_stream()
    }
}

impl<S: StdoutStream> StdoutStream for Veiled<S> {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        self.inner.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        self.inner.p2_stream()
    }
}
