//! Starts processes for a host of guests that gives up starting any: a process of its own, which is there before
//! the first guest, and starts nothing but compilers, processes of guests, and helpers that have credentials.
//!
//! ```text
//! host --Ask::Start(what), 3 files--> serve: starts this program anew
//!      <--Told::Started, Ended--      waits for its end        Ask::Signal
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::inherited::{close_inherited, leave_signals_to_the_host};
use crate::process_signal::ProcessSignal;

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A compiler for a profile and what its code looks at.
    Compiler(String, String),
    /// The process of a guest.
    Guest,
    /// A helper that has credentials for registries (docker-credential-helpers), by its name.
    Helper(String),
}

/// How this program is started anew.
#[derive(Debug, Clone)]
pub struct Programs {
    pub program: PathBuf,
    pub compiler: Vec<String>,
    pub guest: Vec<String>,
    /// What the process is called that starts them: a program that calls `serve` with its standard input.
    pub spawner: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    Start(u64, What),
    Signal(u64, ProcessSignal),
}

#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Started(u64, u32),
    Failed(u64, i32),
    Ended(u64, i32),
}

/// How many processes may run at a time.
const MOST: usize = 4_096;
/// How long a message may be.
const LONGEST: usize = 4 << 10;
/// What helpers are called.
const HELPERS: &str = "docker-credential-";
/// Standard input, output and error.
const FILES: usize = 3;

/// The host's end.
pub struct Spawner {
    socket: OwnedFd,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spawner")
    }
}

/// Who waits for a process.
struct Waiting {
    started: Option<oneshot::Sender<io::Result<u32>>>,
    ended: oneshot::Sender<ExitStatus>,
}

/// A process that was asked for.
pub(crate) struct Asked {
    number: u64,
    spawner: Arc<Spawner>,
    pub(crate) started: oneshot::Receiver<io::Result<u32>>,
    pub(crate) ended: oneshot::Receiver<ExitStatus>,
}

impl Asked {
    /// What has the process run, rest or end, whoever has it.
    pub(crate) fn signaller(&self) -> impl Fn(ProcessSignal) + Send + use<> {
        let (number, spawner) = (self.number, Arc::clone(&self.spawner));
        // One that has ended needs no signal.
        move |wanted| drop(send(spawner.socket.as_fd(), &Ask::Signal(number, wanted), &[]))
    }
}

impl Spawner {
    /// Starts the process that starts others. It ends with this one's main thread, which has to call this.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn start(programs: &Programs) -> io::Result<Arc<Spawner>> {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        // It ends when the other end of its socket is closed, and is a child of this process until then.
        Command::new(&programs.program)
            .args(&programs.spawner)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let (next, waiting) = (AtomicU64::new(0), Mutex::default());
        Ok(Arc::new(Spawner { socket: ours, next, waiting }))
    }

    /// Begins to hear what becomes of processes, on a thread of its own. `gone` is called if the process that
    /// starts them ends before this one.
    ///
    /// # Errors
    /// Fails if there is none to be had.
    pub fn listen(self: &Arc<Spawner>, gone: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let spawner = Arc::clone(self);
        let thread = std::thread::Builder::new().name("mote-spawner".to_owned());
        let hear = move || {
            spawner.hear();
            gone();
        };
        thread.spawn(hear).map(drop)
    }

    /// Starts a helper of registries with these standard streams, and waits for its end.
    ///
    /// # Errors
    /// Fails if it is not there, or cannot be started.
    pub async fn helper(
        self: &Arc<Spawner>,
        program: &str,
        files: [OwnedFd; FILES],
    ) -> io::Result<ExitStatus> {
        let asked = self.ask(What::Helper(program.to_owned()), files)?;
        asked.started.await.map_err(io::Error::other)??;
        asked.ended.await.map_err(io::Error::other)
    }

    /// Asks for a process with these files as its standard streams.
    pub(crate) fn ask(
        self: &Arc<Spawner>,
        what: What,
        files: [OwnedFd; FILES],
    ) -> io::Result<Asked> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (starting, started) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        self.waiting().insert(number, Waiting { started: Some(starting), ended: ending });
        let sent = send(self.socket.as_fd(), &Ask::Start(number, what), &files);
        if let Err(error) = sent {
            self.waiting().remove(&number);
            return Err(io::Error::new(
                error.kind(),
                format!("the process that starts others is gone ({error}); start the daemon anew"),
            ));
        }
        Ok(Asked { number, spawner: Arc::clone(self), started, ended })
    }

    /// Hears what becomes of processes, until the other end is gone.
    fn hear(&self) {
        while let Ok(Some((told, _))) = receive::<Told>(self.socket.as_fd()) {
            let mut waiting = self.waiting();
            // Whoever asked may have lost interest.
            match told {
                Told::Started(number, pid) => {
                    let started = waiting.get_mut(&number).and_then(|one| one.started.take());
                    started.map(|started| started.send(Ok(pid)));
                }
                Told::Failed(number, error) => {
                    let started = waiting.remove(&number).and_then(|one| one.started);
                    started.map(|started| started.send(Err(io::Error::from_raw_os_error(error))));
                }
                Told::Ended(number, status) => {
                    let ended = waiting.remove(&number).map(|one| one.ended);
                    ended.map(|ended| ended.send(ExitStatus::from_raw(status)));
                }
            }
        }
        // Those who wait hear that nobody will answer.
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the process does that starts others: what it is asked for at the socket that is its standard input, until
/// that is closed.
///
/// # Errors
/// Fails if it cannot end with whoever started it.
pub fn serve_spawner(programs: &Programs) -> io::Result<()> {
    close_inherited();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It ends with its host, which may have something to see to first.
    leave_signals_to_the_host();
    let socket = Arc::new(io::stdin().as_fd().try_clone_to_owned()?);
    let running: Arc<Mutex<HashMap<u64, OwnedFd>>> = Arc::default();
    let count = |running: &Arc<Mutex<HashMap<u64, OwnedFd>>>| {
        running.lock().unwrap_or_else(PoisonError::into_inner).len()
    };
    let lock = |running: &Arc<Mutex<HashMap<u64, OwnedFd>>>, number, process: Option<OwnedFd>| {
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        match process {
            Some(process) => running.insert(number, process),
            None => running.remove(&number),
        }
    };
    while let Some((ask, files)) = receive::<Ask>(socket.as_fd())? {
        let (number, what) = match ask {
            Ask::Start(number, _) if count(&running) >= MOST => {
                send(socket.as_fd(), &Told::Failed(number, libc::EAGAIN), &[])?;
                continue;
            }
            Ask::Start(number, what) => (number, what),
            Ask::Signal(number, wanted) => {
                let running = running.lock().unwrap_or_else(PoisonError::into_inner);
                let process = running.get(&number);
                // By its file, which is never another's.
                process.map(|process| rustix::process::pidfd_send_signal(process, wanted.signal()));
                continue;
            }
        };
        let mut child = match start(programs, &what, files) {
            Ok(child) => child,
            Err(error) => {
                let error = error.raw_os_error().unwrap_or(libc::EIO);
                send(socket.as_fd(), &Told::Failed(number, error), &[])?;
                continue;
            }
        };
        let pid = Pid::from_child(&child);
        if let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            lock(&running, number, Some(process));
        }
        send(socket.as_fd(), &Told::Started(number, child.id()), &[])?;
        let (socket, running) = (Arc::clone(&socket), Arc::clone(&running));
        std::thread::spawn(move || {
            let ended = child.wait();
            lock(&running, number, None);
            let status = ended.map_or(0, ExitStatusExt::into_raw);
            // Nobody may listen any more.
            let _ = send(socket.as_fd(), &Told::Ended(number, status), &[]);
        });
    }
    Ok(())
}

fn start(programs: &Programs, what: &What, files: Vec<OwnedFd>) -> io::Result<std::process::Child> {
    let Ok([input, output, error]) = <[OwnedFd; FILES]>::try_from(files) else {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    };
    let mut command = Command::new(&programs.program);
    match what {
        What::Compiler(profile, checks) => command.args(&programs.compiler).args([profile, checks]),
        What::Guest => command.args(&programs.guest),
        What::Helper(name) => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !name.starts_with(HELPERS) || !name.chars().all(is_plain) {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
            let mut helper = Command::new(name);
            // It looks for what it keeps as its user's programs do.
            return helper.arg("get").stdin(input).stdout(output).stderr(error).spawn();
        }
    };
    command.env_clear().stdin(input).stdout(output).stderr(error).spawn()
}

/// A file that nothing comes from and that takes everything.
pub(crate) fn nowhere() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

fn send(socket: BorrowedFd<'_>, message: &impl Serialize, files: &[OwnedFd]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&files));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message and its files; none when the other end is gone. What is no message is passed over.
fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    loop {
        match receive_any(socket)? {
            None => return Ok(None),
            Some((text, files)) => {
                if let Ok(message) = serde_json::from_slice(&text) {
                    return Ok(Some((message, files)));
                }
            }
        }
    }
}

fn receive_any(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files = files.flatten().collect();
    text.truncate(received.bytes);
    Ok(Some((text, files)))
}
