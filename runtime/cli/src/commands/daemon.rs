//! `mote daemon`

use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use mote_daemon::{Config, Daemon, Machine, api};
use mote_engine::{CompileIn, Hosts, Spawner, WorkIn, machine_memory};
use mote_lifecycle::Resources;
use mote_registry::Helpers;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::app::{App, programs};
use crate::error::CliError;
use crate::launch;
use crate::output;
use crate::registry;

mod install;

/// Run containers in the background, and serve the Docker Engine API
///
/// Every tool that speaks it drives mote: set DOCKER_HOST=unix://SOCKET for docker and compose. The
/// daemon also starts by itself when a command needs it, such as `mote run -d`. When it starts it
/// takes up what an earlier one left: containers whose restart policy says so run again.
#[derive(Args, Debug)]
pub(crate) struct DaemonArgs {
    #[command(subcommand)]
    command: Option<What>,
    /// How much the daemon says about its own work
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: Level,
}

#[derive(Subcommand, Debug)]
enum What {
    Install(install::InstallArgs),
    /// Stop the daemon and all its containers
    ///
    /// Those whose restart policy says so run again with the next one.
    Stop,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The socket of the daemon of this state folder.
pub(crate) fn socket(app: &App) -> PathBuf {
    app.machine.state.join("mote.sock")
}

/// How long containers may take to end with the daemon.
const PATIENCE: Duration = Duration::from_secs(20);

impl DaemonArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let DaemonArgs { command, log_level } = self;
        match command {
            Some(What::Install(install)) => return install.exec(app),
            Some(What::Stop) => return stop(app),
            None => {}
        }
        listen_to_itself(log_level);
        raise_file_limit();
        let (machine, helpers) = hardened(app)?;
        let failed = |error| CliError::new(format!("cannot start the event loop: {error}"));
        let mut guests = tokio::runtime::Builder::new_multi_thread();
        guests.thread_name("mote-guest").enable_all();
        let guests = mote_engine::look_often(&mut guests).build().map_err(failed)?;
        let control =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let socket = socket(app);
        let done = control.block_on(run(app, (machine, helpers), guests.handle().clone(), &socket));
        // A guest that a file operation holds up must not hold the end up.
        guests.shutdown_background();
        control.shutdown_background();
        done
    }
}

/// How often it is looked whether a daemon has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Whether a process holds the lock of a file (proc(5), `/proc/locks`).
fn holds(pid: rustix::process::Pid, inode: u64) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let (pid, inode) = (pid.as_raw_nonzero().to_string(), format!(":{inode}"));
    locks.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"FLOCK")
            && fields.get(4) == Some(&pid.as_str())
            && fields.get(5).is_some_and(|file| file.ends_with(&inode))
    })
}

/// Tells the daemon to end, and waits until it has.
fn stop(app: &App) -> Result<(), CliError> {
    let none = || CliError::not_found("no daemon runs").hint("`mote daemon` starts one");
    let path = app.machine.root.join("daemon.lock");
    let lock = std::fs::File::open(&path).map_err(|_| none())?;
    if lock.try_lock().is_ok() {
        return Err(none());
    }
    let failed = |why: &dyn std::fmt::Display| {
        CliError::new(format!("cannot stop the daemon that {} names: {why}", path.display()))
    };
    // Whoever holds the lock has written who it is.
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
    let pid = text.lines().next().and_then(|line| line.parse().ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    let inode = lock.metadata().map_err(|error| failed(&error))?.ino();
    // A daemon that starts just now has not said yet who it is, and the one before it is gone.
    let pid = pid.filter(|pid| holds(*pid, inode)).ok_or_else(|| failed(&"it is not the one"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .map_err(|error| failed(&error))?;
    let told = std::time::Instant::now();
    while lock.try_lock().is_err() {
        if told.elapsed() > PATIENCE + Duration::from_secs(5) {
            return Err(failed(&"it does not end"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Gives up what no host of guests needs, while there is one thread. Another process starts compilers and
/// processes of guests from now on.
fn hardened(app: &App) -> Result<(Machine, Helpers), CliError> {
    let failed =
        |error| CliError::new(format!("cannot start the process that starts others: {error}"));
    let spawner = Spawner::start(&programs()).map_err(failed)?;
    mote_engine::harden(Hosts::Guests)?;
    let gone = || {
        tracing::error!("the process that starts others is gone: the daemon ends");
        // As a stop does it; what is to run is on record.
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::TERM);
    };
    spawner.listen(gone).map_err(failed)?;
    let machine = Machine {
        compile_in: CompileIn::Spawned(Arc::clone(&spawner)),
        work_in: WorkIn::Spawned(Arc::clone(&spawner)),
        ..app.machine.clone()
    };
    let helpers = Helpers::By(Arc::new(move |program, files| {
        let spawner = Arc::clone(&spawner);
        Box::pin(async move { spawner.helper(&program, files).await })
    }));
    Ok((machine, helpers))
}

async fn run(
    app: &App,
    (machine, helpers): (Machine, Helpers),
    guests: tokio::runtime::Handle,
    socket: &Path,
) -> Result<(), CliError> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // A file that may grow no more is an error of the write, and not the end of every container.
    let _too_large = listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let table = app.config.daemon();
    let mut registries = registry::usual(app);
    registries.credentials.helpers = helpers;
    let config = Config {
        machine,
        registries,
        resources: table.resources(machine_resources(app)),
        flush_every: table.flush_every(),
    };
    launch::own_state(app)?;
    let daemon = Daemon::start(config, guests).await?;
    let (listener, place) = listener(socket)?;
    tell_ready(socket);
    let watchdog = tokio::spawn(feed_watchdog());
    tokio::select! {
        () = accept_forever(&daemon, &listener) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    // Nobody listens where there is no systemd.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    watchdog.abort();
    drop(listener);
    drop(place);
    if tokio::time::timeout(PATIENCE, daemon.end()).await.is_err() {
        tracing::warn!("some containers did not end in time");
    }
    Ok(())
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, CliError> {
    signal(kind).map_err(|error| CliError::new(format!("cannot listen to signals: {error}")))
}

/// Serves every connection in a task of its own.
async fn accept_forever(daemon: &Arc<Daemon>, listener: &UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(api::serve(Arc::clone(daemon), stream))),
            Err(error) => {
                // No descriptor is left, say: later there may be one.
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A socket that is removed when the daemon ends; systemd keeps its own.
struct Place(Option<PathBuf>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Takes the socket that systemd hands over, or makes one. Only the daemon that holds the lock gets
/// here, so that a socket that is there is nobody's.
fn listener(path: &Path) -> Result<(UnixListener, Place), CliError> {
    let failed = |error: std::io::Error| {
        CliError::new(format!("cannot listen at {}: {error}", path.display()))
    };
    let mut handed = sd_notify::listen_fds().map_err(failed)?;
    let (listener, place) = match handed.next() {
        Some(fd) => (handed_over(fd), Place(None)),
        None => {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(error));
                }
                _ => {}
            }
            let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
            // Who may write to it may do what the daemon may.
            let mode = std::fs::Permissions::from_mode(0o660);
            std::fs::set_permissions(path, mode).map_err(failed)?;
            (listener, Place(Some(path.to_owned())))
        }
    };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((UnixListener::from_std(listener).map_err(failed)?, place))
}

fn handed_over(fd: i32) -> std::os::unix::net::UnixListener {
    // SAFETY: systemd opened it for this process (sd_listen_fds(3)), and nobody else here takes it.
    unsafe { std::os::unix::net::UnixListener::from_raw_fd(fd) }
}

/// Says that the daemon answers: to systemd, and on standard output to whoever started it.
fn tell_ready(socket: &Path) {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    // Whoever started it may not listen.
    let _ = writeln!(std::io::stdout(), "mote daemon: listening at unix://{}", socket.display());
    tracing::info!(socket = %socket.display(), "listening");
}

/// Tells systemd again and again that the event loop still turns, if it asks for that.
async fn feed_watchdog() {
    let Some(allowed) = sd_notify::watchdog_enabled() else { return };
    loop {
        // Twice in the time that it allows, as sd_watchdog_enabled(3) advises.
        tokio::time::sleep(allowed / 2).await;
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

/// Sends what the daemon says of itself to the journal under systemd, and else to standard error.
fn listen_to_itself(level: Level) {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let journal = match sd_notify::booted() {
        Ok(true) if under_systemd() => tracing_journald::layer().ok(),
        _ => None,
    };
    let terminal = journal
        .is_none()
        .then(|| tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false));
    tracing_subscriber::registry().with(level).with(journal).with(terminal).init();
}

/// Whether standard error is the journal: what is written there would be there twice.
fn under_systemd() -> bool {
    crate::environment::variable("JOURNAL_STREAM").is_some()
}

/// Every container takes descriptors: as many as this process may have, it has.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // It goes on with fewer.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// What the machine has to give.
fn machine_resources(app: &App) -> Resources {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let disk = rustix::fs::statvfs(&app.machine.root);
    let storage = disk.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    Resources {
        memory: machine_memory().get(),
        cpu: 1000 * cpus,
        storage,
        // Nobody tells how fast a network is.
        network: u64::MAX,
    }
}

/// Prints where a file was written.
fn wrote(path: &Path) {
    output::line(&format!("wrote {}", path.display()));
}
