//! The terminal of a native process: the OCI runtime makes one and hands over its other end at a socket (runc's
//! `docs/terminals.md`), and what is typed and shown goes between that and containerd's fifos.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::error::ShimError;
use crate::paths::Paths;
use crate::streams::shown;

/// How much is read at once.
const PIECE: usize = 16 << 10;

/// Where the OCI runtime hands a terminal over; its file goes with it.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// A terminal's end that is not the process's.
pub(crate) struct Terminal {
    end: OwnedFd,
    /// Ends when all that was shown has been passed on.
    showing: JoinHandle<()>,
    typing: Option<JoinHandle<()>>,
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> ShimError {
    move |source| ShimError::System { what, source }
}

impl Socket {
    /// Makes one in a folder, whose path has to be short.
    pub(crate) fn make(folder: &Path) -> Result<Socket, ShimError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| ShimError::File { path, source }
        };
        std::fs::create_dir_all(folder).map_err(file(folder))?;
        let path = folder.join(format!("terminal-{}-{number}", std::process::id()));
        // One of another process that had this number.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(file(&path))?;
        Ok(Socket { listener, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal that was handed over, and joins it to containerd's fifos.
    pub(crate) async fn terminal(self, paths: &Paths) -> Result<Terminal, ShimError> {
        let taken = failed("take over a terminal");
        let (stream, _) = self.listener.accept().await.map_err(&taken)?;
        let end = receive(&stream).await.map_err(&taken)?;
        rustix::io::ioctl_fionbio(&end, true).map_err(|error| taken(error.into()))?;
        Terminal::join(end, paths)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Receives the file that a message holds.
async fn receive(stream: &UnixStream) -> std::io::Result<OwnedFd> {
    let once = || -> std::io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        // The runtime's own words, which nobody needs.
        let mut words = [0; 4096];
        let mut words = [IoSliceMut::new(&mut words)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(stream.as_fd(), &mut words, &mut control, flags)?;
        let files = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        files.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    };
    stream.async_io(tokio::io::Interest::READABLE, once).await
}

impl Terminal {
    fn join(end: OwnedFd, paths: &Paths) -> Result<Terminal, ShimError> {
        let copy = || end.try_clone().map_err(failed("share a terminal"));
        let shown = shown(paths)?;
        let showing = tokio::spawn(show(watch(copy()?)?, shown));
        let typing = match paths.stdin.as_str() {
            "" => None,
            path => {
                let fifo = pipe::OpenOptions::new().open_receiver(path);
                let fifo = fifo.map_err(|source| ShimError::File { path: path.into(), source })?;
                Some(tokio::spawn(type_into(fifo, watch(copy()?)?)))
            }
        };
        Ok(Terminal { end, showing, typing })
    }

    /// Tells the process how large its terminal is.
    pub(crate) fn resize(&self, columns: u32, rows: u32) -> Result<(), ShimError> {
        let size = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let size =
            Winsize { ws_row: size(rows), ws_col: size(columns), ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.end, size)
            .map_err(|error| failed("resize the terminal")(error.into()))
    }

    /// Waits until all that was shown has been passed on.
    pub(crate) async fn flushed(self) {
        let Terminal { end, mut showing, typing } = self;
        drop(end);
        if let Some(typing) = typing {
            typing.abort();
        }
        let patience = 2 * crate::fifo::PATIENCE;
        if tokio::time::timeout(patience, &mut showing).await.is_err() {
            showing.abort();
        }
    }
}

fn watch(end: OwnedFd) -> Result<AsyncFd<std::fs::File>, ShimError> {
    // SAFETY: a File owns its descriptor for as long as it lives, and goes with the AsyncFd.
    unsafe { AsyncFd::register(std::fs::File::from(end)) }
        .map_err(|error| failed("watch a terminal")(error.into()))
}

/// Passes on what the process shows, until nobody has its terminal any more.
async fn show(terminal: AsyncFd<std::fs::File>, mut to: Option<crate::streams::Writer>) {
    // A fifo whose reader waits for a writer has one now.
    if let Some(writer) = &mut to
        && writer.begin().await.is_err()
    {
        to = None;
    }
    let mut piece = vec![0; PIECE];
    let read = |file: &std::fs::File, piece: &mut [u8]| (&*file).read(piece);
    // At its end it is an error (EIO).
    while let Ok(count @ 1..) =
        terminal.async_io(tokio::io::Interest::READABLE, |file| read(file, &mut piece)).await
    {
        let Some(writer) = &mut to else { continue };
        if writer.write(&piece[..count]).await.is_err() {
            // What nobody reads is not kept.
            to = None;
        }
    }
    if let Some(writer) = to {
        // What nobody reads is not kept.
        let _ = writer.end().await;
    }
}

/// Passes on what is typed.
async fn type_into(mut fifo: pipe::Receiver, terminal: AsyncFd<std::fs::File>) {
    use tokio::io::AsyncReadExt;
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = fifo.read(&mut piece).await {
        let mut rest = &piece[..count];
        while !rest.is_empty() {
            let write = |file: &std::fs::File| (&*file).write(rest);
            match terminal.async_io(tokio::io::Interest::WRITABLE, write).await {
                Ok(written) => rest = &rest[written..],
                Err(_) => return,
            }
        }
    }
}
