//! A native container of a pod, such as its pause container or a sidecar: the configured OCI runtime makes
//! it, and the shim is its parent.
//!
//! Its streams are containerd's own fifos: nothing of it goes through the shim.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use mote_lifecycle::Time;
use oci_spec::runtime;
use runc::options::{CreateOpts, DeleteOpts, ExecOpts, GlobalOpts, KillOpts};
use runc::{Command, Runc};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::bundle::Cgroups;
use crate::cgroup::Cgroup;
use crate::error::ShimError;
use crate::execs::Execs;
use crate::fifo::{Fifo, PATIENCE};
use crate::logger::{self, Logger};
use crate::metrics::Hierarchy;
use crate::paths::Paths;
use crate::phase::Phase;
use crate::rootfs::Rootfs;
use crate::terminal::{Socket, Terminal};

/// A container.
pub(crate) struct Native {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) init: Arc<Process>,
    runc: Runc,
    rootfs: Rootfs,
    cgroup: Cgroup,
    sockets: PathBuf,
    pub(crate) execs: Execs<Process>,
}

/// A process of a container, the first or an exec's.
pub(crate) struct Process {
    pub(crate) paths: Paths,
    pid: AtomicU32,
    /// Stands for the process, also when it is gone.
    handle: OnceLock<OwnedFd>,
    phase: watch::Sender<Phase>,
    /// What an exec is to run.
    wish: Option<runtime::Process>,
    shown: Mutex<Option<Shown>>,
}

/// Where a process prints to.
enum Shown {
    Files(Vec<Fifo>),
    Terminal(Terminal),
}

/// What a native process reads and prints at: files, or a terminal.
enum Console {
    Files(Arc<Files>, Vec<Fifo>),
    Terminal(Arc<Files>, Socket),
}

/// What makes a container, and where.
pub(crate) struct Place<'a> {
    pub(crate) runtime: &'a str,
    pub(crate) state: &'a Path,
    /// For sockets at which terminals are handed over.
    pub(crate) sockets: &'a Path,
    pub(crate) cgroups: Cgroups,
}

/// The file of a bundle in which the OCI runtime says what went wrong.
const LOG: &str = "log.json";
/// The file of a bundle that names the OCI runtime that made its container.
pub(crate) const RUNTIME: &str = "oci-runtime";

/// The standard streams of a native process: the files that containerd named.
#[derive(Debug)]
struct Files {
    stdin: File,
    stdout: File,
    stderr: File,
}

impl Native {
    /// Has the runtime make a container of a bundle whose root is mounted.
    pub(crate) async fn create(
        id: &str,
        bundle: &Path,
        rootfs: Rootfs,
        paths: Paths,
        place: Place<'_>,
    ) -> Result<Native, ShimError> {
        let Place { runtime, state, sockets, cgroups } = place;
        // Who clears away after a killed shim has only the bundle.
        let note = bundle.join(RUNTIME);
        std::fs::write(&note, runtime).map_err(|source| ShimError::File { path: note, source })?;
        let options = GlobalOpts::new().command(runtime).root(state).log_json();
        let options = options.systemd_cgroup(cgroups == Cgroups::Systemd);
        let mut options = options.log(bundle.join(LOG));
        // It takes the network that it is in for the machine's.
        options.custom_spawner(Arc::new(paths.network.clone()));
        let runc = options.build().map_err(|_| {
            ShimError::Invalid(format!(
                "there is no OCI runtime `{runtime}` on the PATH of containerd (`oci_runtime` of [shim] in mote's configuration, or BinaryName)"
            ))
        })?;
        let pid_file = bundle.join("init.pid");
        let console = Console::open(&paths, sockets).await?;
        let mut options = CreateOpts::new().pid_file(&pid_file).io(console.io());
        if let Some(path) = console.socket() {
            options = options.console_socket(path);
        }
        runc.create(id, bundle, Some(&options)).await.map_err(failed(bundle, "create"))?;
        let init = Arc::new(Process::new(paths, None));
        let shown = console.shown(&init.paths).await;
        let watched = shown.and_then(|shown| {
            let pid = read_pid(&pid_file).map_err(|error| {
                ShimError::Invalid(format!("`{runtime}` made no container: {}", error.text()))
            })?;
            init.runs_as(pid, shown).map(|()| pid)
        });
        let pid = match watched {
            Ok(pid) => pid,
            Err(error) => {
                // Nobody else would know of it.
                let force = DeleteOpts::new().force(true);
                let _ = runc.delete(id, Some(&force)).await;
                return Err(error);
            }
        };
        let cgroup = Cgroup::of(pid);
        Ok(Native {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            init,
            runc,
            rootfs,
            cgroup,
            sockets: sockets.to_owned(),
            execs: Execs::new(),
        })
    }

    pub(crate) async fn start(&self) -> Result<(), ShimError> {
        self.runc.start(&self.id).await.map_err(failed(&self.bundle, "start"))?;
        self.init.enter(Phase::Running);
        Ok(())
    }

    pub(crate) async fn kill(&self, signal: u32, all: bool) -> Result<(), ShimError> {
        let options = KillOpts::new().all(all);
        let killed = self.runc.kill(&self.id, signal, Some(&options)).await;
        killed.map_err(|error| {
            let text = error.to_string();
            let gone = ["not running", "does not exist", "already finished"];
            match gone.iter().any(|word| text.contains(word)) {
                true => ShimError::NotFound(format!("process of {} already finished", self.id)),
                false => failed(&self.bundle, "kill")(error),
            }
        })
    }

    pub(crate) async fn pause(&self) -> Result<(), ShimError> {
        self.runc.pause(&self.id).await.map_err(failed(&self.bundle, "pause"))?;
        self.init.enter(Phase::Paused);
        Ok(())
    }

    pub(crate) async fn resume(&self) -> Result<(), ShimError> {
        self.runc.resume(&self.id).await.map_err(failed(&self.bundle, "resume"))?;
        self.init.enter(Phase::Running);
        Ok(())
    }

    pub(crate) async fn update(
        &self,
        resources: &runtime::LinuxResources,
    ) -> Result<(), ShimError> {
        self.runc.update(&self.id, resources).await.map_err(failed(&self.bundle, "update"))
    }

    pub(crate) async fn pids(&self) -> Result<Vec<u32>, ShimError> {
        // containerd takes a task without any for one that is not there.
        if let Phase::Stopped { .. } = self.init.phase() {
            return Ok(vec![self.init.pid()]);
        }
        let pids =
            self.runc.ps(&self.id).await.map_err(failed(&self.bundle, "list the processes of"))?;
        Ok(pids.into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect())
    }

    pub(crate) fn stats(&self, hierarchy: Hierarchy) -> Any {
        self.cgroup.metrics(hierarchy)
    }

    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.cgroup.is_out_of_memory()
    }

    /// Removes what has ended; what the runtime knows of it goes by force.
    pub(crate) async fn remove(&self) -> Result<(), ShimError> {
        let options = DeleteOpts::new().force(true);
        self.runc.delete(&self.id, Some(&options)).await.map_err(failed(&self.bundle, "delete"))?;
        self.rootfs.unmount();
        Ok(())
    }

    pub(crate) fn add_exec(
        &self,
        id: &str,
        process: runtime::Process,
        paths: Paths,
    ) -> Result<(), ShimError> {
        self.execs.add(id, || Ok(Process::new(paths, Some(process))))
    }

    pub(crate) async fn start_exec(&self, exec: &Arc<Process>) -> Result<(), ShimError> {
        let wish = exec.wish.as_ref();
        let wish = wish.ok_or_else(|| ShimError::Invalid("it is no exec".to_owned()))?;
        // Another may be started at the same time.
        let pid_file = self.bundle.join(format!("exec-{:p}.pid", Arc::as_ptr(exec)));
        let console = Console::open(&exec.paths, &self.sockets).await?;
        let mut options = ExecOpts::new().pid_file(&pid_file).detach(true).io(console.io());
        if let Some(path) = console.socket() {
            options = options.console_socket(path);
        }
        let started = self.runc.exec(&self.id, wish, Some(&options)).await;
        let pid =
            started.map_err(failed(&self.bundle, "exec in")).and_then(|()| read_pid(&pid_file));
        let _ = std::fs::remove_file(&pid_file);
        let pid = pid?;
        let shown = console.shown(&exec.paths).await;
        if let Err(error) = shown.and_then(|shown| exec.runs_as(pid, shown)) {
            // Nobody else knows of it. It is an orphan then, and reaped as such.
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            return Err(error);
        }
        exec.enter(Phase::Running);
        if let Phase::Stopped { .. } = exec.phase() {
            // It was killed while the runtime made it; or it has ended by itself, and nobody is there.
            let _ = exec.signal(Signal::KILL);
        }
        Ok(())
    }
}

/// The error of a runtime that failed: its own words, which are in its log.
fn failed(bundle: &Path, what: &'static str) -> impl Fn(runc::error::Error) -> ShimError {
    #[derive(serde::Deserialize)]
    struct Logged {
        level: String,
        msg: String,
    }
    let log = bundle.join(LOG);
    move |source| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Logged>(line).ok());
        let said = lines.into_iter().find(|line| matches!(line.level.as_str(), "error" | "fatal"));
        match (said, &source) {
            (Some(said), runc::error::Error::CommandFailed { .. }) => {
                ShimError::Invalid(format!("the OCI runtime cannot {what} it: {}", said.msg))
            }
            _ => ShimError::Runtime { what, source: Box::new(source) },
        }
    }
}

fn read_pid(path: &Path) -> Result<u32, ShimError> {
    let file = |source| ShimError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(file)?;
    text.trim().parse().map_err(|_| file(std::io::ErrorKind::InvalidData.into()))
}

impl Process {
    fn new(paths: Paths, wish: Option<runtime::Process>) -> Process {
        Process {
            paths,
            pid: AtomicU32::new(0),
            handle: OnceLock::new(),
            phase: watch::Sender::new(Phase::Created),
            wish,
            shown: Mutex::new(None),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn shown(&self) -> MutexGuard<'_, Option<Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first end stays.
    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let goes_on = !matches!(phase, Phase::Stopped { .. });
            if goes_on {
                *phase = next;
            }
            goes_on
        });
    }

    /// Notes which process it is, and waits for its end in a task of its own.
    fn runs_as(self: &Arc<Process>, pid: u32, shown: Shown) -> Result<(), ShimError> {
        *self.shown() = Some(shown);
        let system =
            |what, error: rustix::io::Errno| ShimError::System { what, source: error.into() };
        self.pid.store(pid, Ordering::Relaxed);
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| ShimError::Invalid(format!("{pid} is no process")))?;
        let fd = rustix::process::pidfd_open(number, PidfdFlags::empty())
            .map_err(|error| system("watch a process", error))?;
        let handle = fd
            .try_clone()
            .map_err(|source| ShimError::System { what: "watch a process", source })?;
        // It is noted once.
        let _ = self.handle.set(handle);
        // SAFETY: an OwnedFd names the same open file for as long as it lives, and goes with the AsyncFd.
        let fd = unsafe { AsyncFd::register(fd) }
            .map_err(|error| ShimError::System { what: "watch a process", source: error.into() })?;
        let process = Arc::clone(self);
        tokio::spawn(async move {
            // It is readable when the process has ended, and not before.
            let _ = fd.readable().await;
            let code = reap(number);
            let at = Some(Time::now());
            let shown = process.shown().take();
            match shown {
                Some(Shown::Terminal(terminal)) => terminal.flushed().await,
                Some(Shown::Files(fifos)) => {
                    let deadline = Instant::now() + PATIENCE;
                    for fifo in fifos {
                        fifo.until_read_or(deadline).await;
                    }
                }
                None => {}
            }
            process.enter(Phase::Stopped { code, at });
        });
        Ok(())
    }

    /// Tells its terminal's size; a process without one has none.
    pub(crate) fn resize(&self, columns: u32, rows: u32) -> Result<(), ShimError> {
        match &*self.shown() {
            Some(Shown::Terminal(terminal)) => terminal.resize(columns, rows),
            Some(Shown::Files(_)) | None => Ok(()),
        }
    }

    pub(crate) async fn wait(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        let ended = phase.wait_for(|phase| matches!(phase, Phase::Stopped { .. })).await;
        ended.map_or(Phase::Stopped { code: 0, at: None }, |phase| *phase)
    }

    pub(crate) fn kill(&self, signal: u32) -> Result<(), ShimError> {
        if self.phase() == Phase::Created {
            self.enter(Phase::Stopped { code: KILLED, at: Some(Time::now()) });
            return Ok(());
        }
        let number = i32::try_from(signal).ok().and_then(Signal::from_named_raw);
        self.signal(number.ok_or_else(|| ShimError::Invalid(format!("{signal} is no signal")))?)
    }

    fn signal(&self, signal: Signal) -> Result<(), ShimError> {
        // Its number may be another's by now; this is not.
        let gone = || ShimError::NotFound("process already finished".to_owned());
        let process = self.handle.get().ok_or_else(gone)?;
        rustix::process::pidfd_send_signal(process, signal).map_err(|_| gone())
    }
}

/// The exit code of what was killed.
const KILLED: u8 = 137;

/// The exit code of a child that has ended, as a shell tells it.
fn reap(pid: Pid) -> u8 {
    let Ok(Some((_, status))) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) else {
        return KILLED;
    };
    let status = std::process::ExitStatus::from_raw(status.as_raw());
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

impl Console {
    async fn open(paths: &Paths, sockets: &Path) -> Result<Console, ShimError> {
        if !paths.terminal {
            let (output, error) = tokio::join!(fifo(&paths.stdout), fifo(&paths.stderr));
            let fifos = [output?, error?].into_iter().flatten().collect();
            return Ok(Console::Files(Arc::new(Files::open(paths)?), fifos));
        }
        let nothing = || open("", OFlags::RDWR);
        let files = Files { stdin: nothing()?, stdout: nothing()?, stderr: nothing()? };
        Ok(Console::Terminal(Arc::new(files), Socket::make(sockets)?))
    }

    /// What the runtime itself gets.
    fn io(&self) -> Arc<Files> {
        match self {
            Console::Files(files, _) | Console::Terminal(files, _) => Arc::clone(files),
        }
    }

    fn socket(&self) -> Option<&Path> {
        match self {
            Console::Files(..) => None,
            Console::Terminal(_, socket) => Some(socket.path()),
        }
    }

    /// Where the process that the runtime has made prints to.
    async fn shown(self, paths: &Paths) -> Result<Shown, ShimError> {
        match self {
            Console::Files(_, fifos) => Ok(Shown::Files(fifos)),
            Console::Terminal(_, socket) => socket.terminal(paths).await.map(Shown::Terminal),
        }
    }
}

/// The fifo that output goes to, if it is one.
async fn fifo(uri: &str) -> Result<Option<Fifo>, ShimError> {
    let path = match uri.split_once("://") {
        None if uri.is_empty() => return Ok(None),
        None => uri,
        Some(("fifo", path)) => path,
        Some(_) => return Ok(None),
    };
    let file = |source| ShimError::File { path: path.into(), source };
    Fifo::with_reader(path).await.map_err(file)
}

impl Files {
    fn open(paths: &Paths) -> Result<Files, ShimError> {
        let output = |path: &str| {
            let path = path.strip_prefix("fifo://").unwrap_or(path);
            match path.strip_prefix("file://") {
                Some(path) => open(path, OFlags::APPEND | OFlags::CREATE | OFlags::WRONLY),
                // For both ways: nobody waits for the other end, and none is missed that comes back.
                None => open(path, OFlags::RDWR),
            }
        };
        let stdin = open(&paths.stdin, OFlags::RDONLY | OFlags::NONBLOCK)?;
        // It waited for no writer; its reader waits for what is written.
        rustix::fs::fcntl_setfl(&stdin, OFlags::empty())
            .map_err(|error| ShimError::System { what: "open the input", source: error.into() })?;
        if let Some(address) = logger::address(&paths.stdout) {
            let Logger { stdout, stderr } = logger::start(address, paths)?;
            return Ok(Files { stdin, stdout: stdout.into(), stderr: stderr.into() });
        }
        Ok(Files { stdin, stdout: output(&paths.stdout)?, stderr: output(&paths.stderr)? })
    }
}

fn open(path: &str, flags: OFlags) -> Result<File, ShimError> {
    let path = if path.is_empty() { "/dev/null" } else { path };
    let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from(0o640));
    let failed =
        |error: rustix::io::Errno| ShimError::File { path: path.into(), source: error.into() };
    opened.map(|fd: OwnedFd| File::from(fd)).map_err(failed)
}

#[async_trait::async_trait]
impl runc::Io for Files {
    async fn set(&self, command: &mut Command) -> std::io::Result<()> {
        command.stdin(self.stdin.try_clone()?);
        command.stdout(self.stdout.try_clone()?);
        command.stderr(self.stderr.try_clone()?);
        Ok(())
    }

    /// The files go with this value.
    async fn close_after_start(&self) {}
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "native container {}", self.id)
    }
}
