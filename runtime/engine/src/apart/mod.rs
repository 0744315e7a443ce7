//! Runs a program in a process of its own, for what only a process can have: another user, a seccomp
//! profile, other namespaces.
//!
//! ```text
//! Worker::spawn(Network) ==socket==> work: enters its namespaces
//! Worker::run(Order)     ==files===> run: opens what is granted, raises the wall, calls the guest
//!     <--Begun, Ended--  Control's switches -->       the gauge is memory that both have
//! ```

mod cgroup;
mod domain;
mod filter;
mod lacking;
mod link;
mod namespaces;
mod order;
pub(crate) mod seccomp;
pub(crate) mod wall;
mod worker;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mote_spec::{Bytes, Digest, ExitStatus};
use rustix::process::Pid;
use tokio::process::{Child, Command};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::control::Control;
use crate::error::{EngineError, Fault};
use crate::gauge::Gauge;
use crate::launch::Launch;
use crate::mechanisms::{Layer, Layers};
use crate::outcome::Outcome;
use crate::process_signal::ProcessSignal;
use crate::profile::{Checks, Profile};
use crate::spawner::{Spawner, What, nowhere};

use cgroup::Cgroup;
pub use lacking::lacking_layers;
use link::Link;
pub use namespaces::{Network, enter_fresh_network};
pub use order::Order;
use order::Said;
pub use seccomp::SeccompProfile;
pub use wall::{User, Wall};
pub use worker::work;

/// How the process of a guest comes to be.
#[derive(Debug, Clone)]
pub enum WorkIn {
    /// It is a child of this one: a program that calls `work` with its standard input when it is started with
    /// these arguments.
    Child { program: PathBuf, args: Vec<String> },
    /// Another process starts it.
    Spawned(Arc<Spawner>),
}

/// A process that is to run one guest. It ends when this is dropped.
pub struct Worker {
    pid: u32,
    link: Link,
    gauge: Arc<Gauge>,
    /// Tells whoever waits for the process what it is to do.
    wanted: watch::Sender<ProcessSignal>,
    gone: Gone,
    cgroup: Enclosed,
}

/// Whether a process is in a cgroup of its own.
enum Enclosed {
    /// In that of whoever started it.
    No,
    In(Cgroup),
    /// It was to be, and is not.
    Failed,
}

/// The end of a worker's process, whoever has the worker.
#[derive(Debug, Clone)]
pub struct Gone(watch::Receiver<Option<std::process::ExitStatus>>);

impl Gone {
    /// Waits until the process is gone, with all that it held; how it ended, if that could be told.
    pub async fn wait(&mut self) -> Option<std::process::ExitStatus> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.wanted.send_replace(ProcessSignal::Ends);
        let cgroup = std::mem::replace(&mut self.cgroup, Enclosed::No);
        if let (Enclosed::In(cgroup), Ok(events)) = (cgroup, Handle::try_current()) {
            let mut gone = self.gone.clone();
            events.spawn(async move {
                gone.wait().await;
                beside_others(move || drop(cgroup)).await;
            });
        }
    }
}

/// How long a process may take to end that has closed its link.
const ENDS: Duration = Duration::from_secs(1);
/// How long what it has printed may take to be read.
const PASSES: Duration = Duration::from_secs(10);
/// How much later than in its own process a guest's deadline is held from outside: it may be held up in a call.
const GRACE: Duration = Duration::from_millis(500);

impl Worker {
    /// Starts a process, and waits until it is in its namespaces. Must be called by a thread that lives as
    /// long as the process is to: it dies with that thread, and with the event loop.
    ///
    /// # Errors
    /// Fails if it cannot be started, or cannot enter them.
    pub async fn spawn(how: &WorkIn, network: &Network) -> Result<Worker, EngineError> {
        let gauge = Gauge::to_share().map_err(failed)?;
        Worker::spawn_with(how, network, Arc::new(gauge)).await
    }

    /// The same, with a gauge that can be shared.
    async fn spawn_with(
        how: &WorkIn,
        network: &Network,
        gauge: Arc<Gauge>,
    ) -> Result<Worker, EngineError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        let link = Link::new(ours).map_err(failed)?;
        let (wanted, told) = watch::channel(ProcessSignal::Runs);
        let (pid, gone) = match how {
            WorkIn::Child { program, args } => start_child(program, args, theirs, told),
            WorkIn::Spawned(spawner) => ask_for_child(spawner, theirs, told).await,
        }
        .map_err(failed)?;
        let mut worker = Worker { pid, link, gauge, wanted, gone, cgroup: Enclosed::No };
        // One that dies at once says nothing, and hears nothing.
        let _ = worker.link.send(network).await;
        match worker.link.next().await.map_err(failed)? {
            Some(Said::Ready) => Ok(worker),
            Some(Said::Failed(why, fault)) => Err(EngineError::Apart { why, fault }),
            Some(Said::Begun | Said::Ended(_)) => Err(failed(io::ErrorKind::InvalidData.into())),
            None => Err(EngineError::Apart { why: worker.end().await.1, fault: Fault::Host }),
        }
    }

    /// The process. Its number is its own until it is gone.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Puts the process into a cgroup of its own, where this machine lets it have one, for a guest that may
    /// use so much memory. The kernel may take tens of milliseconds for it.
    pub async fn enclose(&mut self, memory: Bytes) {
        let pid = self.pid;
        self.cgroup = match beside_others(move || Cgroup::enclose(pid, memory)).await {
            Ok(cgroup) => Enclosed::In(cgroup),
            Err(_) => Enclosed::Failed,
        };
    }

    /// Its end, to be waited for.
    pub fn gone(&self) -> Gone {
        self.gone.clone()
    }

    /// What its guest uses.
    pub fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.gauge)
    }

    /// Runs a program to its end, or until this is dropped. `streams` are its standard input, output and
    /// error. `begun` is told when it stands.
    ///
    /// # Errors
    /// Fails if the program does not get as far as its first instruction.
    pub async fn run(
        mut self,
        order: &Order,
        streams: [OwnedFd; 3],
        control: &Control,
        begun: oneshot::Sender<()>,
    ) -> Result<Outcome, EngineError> {
        let mut begun = Some(begun);
        let lacks = match self.cgroup {
            Enclosed::No | Enclosed::In(_) => Vec::new(),
            Enclosed::Failed => vec![Layer::Cgroup],
        };
        if order.wall.layers == Layers::All && !lacks.is_empty() {
            return Err(EngineError::Lacks { layers: lacks });
        }
        match self.tell(order, streams).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(EngineError::Apart { why: self.end().await.1, fault: Fault::Host });
            }
            Err(error) => return Err(failed(error)),
        }
        let limit = order.policy.limits().timeout.bound();
        let from_now = || Instant::now().checked_add(limit?.duration().checked_add(GRACE)?);
        let mut deadline = from_now();
        loop {
            let said = tokio::select! {
                said = self.link.next() => said.map_err(failed)?,
                () = control.changed() => {
                    let wanted = match control.is_paused() {
                        true => ProcessSignal::Rests,
                        false => ProcessSignal::Runs,
                    };
                    let told = |was: &mut ProcessSignal| std::mem::replace(was, wanted) != wanted;
                    // One that rests reads nothing, and hears all that was switched when it goes on. One that has
                    // died is found out above.
                    if self.wanted.send_if_modified(told) || wanted == ProcessSignal::Runs {
                        let _ = self.link.send(&control.switches()).await;
                    }
                    continue;
                }
                // It holds the deadline itself, unless a call holds it up.
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Ok(Outcome::of_status(ExitStatus::TimedOut));
                }
            };
            match said {
                Some(Said::Begun) => {
                    // Once: it is a guest's process that says so.
                    let Some(begun) = begun.take() else {
                        return Err(failed(io::ErrorKind::InvalidData.into()));
                    };
                    let _ = begun.send(());
                    deadline = from_now();
                }
                Some(Said::Ended(mut outcome)) => {
                    outcome.lacks.extend(lacks);
                    // What it has, such as its cgroup, goes with it.
                    let _ = tokio::time::timeout(ENDS, self.gone.wait()).await;
                    return Ok(outcome);
                }
                Some(Said::Failed(why, fault)) => return Err(EngineError::Apart { why, fault }),
                Some(Said::Ready) => return Err(failed(io::ErrorKind::InvalidData.into())),
                None => {
                    let (status, mut why) = self.end().await;
                    if order.wall.seccomp.is_some() && status == ExitStatus::Trapped {
                        why +=
                            "; its seccomp profile may forbid what the process of every guest does";
                    }
                    if begun.is_some() {
                        return Err(EngineError::Apart { why, fault: Fault::Host });
                    }
                    return Ok(Outcome { detail: Some(why), ..Outcome::of_status(status) });
                }
            }
        }
    }

    /// Tells what is to be run. The streams are the process's alone then: their other ends hear of its end.
    async fn tell(&mut self, order: &Order, streams: [OwnedFd; 3]) -> io::Result<()> {
        let [input, output, error] = &streams;
        let memory = self.gauge.memory().ok_or(io::ErrorKind::InvalidInput)?;
        let files = [input.as_fd(), output.as_fd(), error.as_fd(), memory];
        self.link.send_files(files).await?;
        self.link.send(order).await
    }

    /// How a process has ended that did not say so, and why.
    async fn end(&mut self) -> (ExitStatus, String) {
        /// What a filter kills with.
        const SIGSYS: i32 = 31;
        const SIGKILL: i32 = 9;
        if tokio::time::timeout(ENDS, self.gone.wait()).await.is_err() {
            self.wanted.send_replace(ProcessSignal::Ends);
        }
        let Some(status) = self.gone.wait().await else {
            return (ExitStatus::Killed, "its process is lost".to_owned());
        };
        let is_out_of_memory = match &self.cgroup {
            Enclosed::In(cgroup) => cgroup.is_out_of_memory(),
            Enclosed::No | Enclosed::Failed => false,
        };
        match status.signal() {
            Some(SIGKILL) if is_out_of_memory => {
                let why = "the kernel ended its process, for the limit of its cgroup";
                (ExitStatus::OutOfMemory, why.to_owned())
            }
            Some(SIGKILL) => (ExitStatus::Killed, "its process was killed".to_owned()),
            Some(SIGSYS) => {
                let why = "its process made a system call that its seccomp profile kills for";
                (ExitStatus::Trapped, why.to_owned())
            }
            _ => (ExitStatus::Trapped, format!("its process ended by itself: {status}")),
        }
    }
}

/// A program that is to be run in a process of its own.
#[derive(Debug, Clone)]
pub struct Apart {
    pub work_in: WorkIn,
    /// The code cache, which has the program.
    pub cache: PathBuf,
    pub program: Digest,
    pub profile: Profile,
    pub checks: Checks,
}

impl Apart {
    /// Runs the program behind the wall that its policy describes, to its end or until the future is dropped.
    /// `launch` has a gauge of `Gauge::of`. Must be called by a thread that lives as long as the program is to.
    ///
    /// # Errors
    /// Fails if the program does not get as far as its first instruction.
    pub async fn run(&self, launch: Launch<'_>) -> Result<Outcome, EngineError> {
        self.start(launch).await?.1.await
    }

    /// The same in two steps: the process, which is there when this returns, and its guest's run. What it held is free
    /// when it is gone, which may be after the run.
    ///
    /// # Errors
    /// Fails if there is no such process to be had.
    pub async fn start(
        &self,
        launch: Launch<'_>,
    ) -> Result<(Gone, impl Future<Output = Result<Outcome, EngineError>> + use<>), EngineError>
    {
        let Launch { policy, process, stdio, root, scratch, gauge, control, begun, wall: _ } =
            launch;
        let wall = Wall::of(policy)?;
        let network = Network::of(&policy.grants().net);
        let mut worker = Worker::spawn_with(&self.work_in, &network, gauge).await?;
        worker.enclose(policy.limits().memory).await;
        let order = Order {
            cache: self.cache.clone(),
            program: self.program.clone(),
            profile: self.profile,
            checks: self.checks,
            policy: policy.clone(),
            process,
            root,
            scratch,
            terminal: stdio.terminal_of_pipes(),
            wall,
        };
        let (streams, passing) = stdio.pipes().map_err(failed)?;
        let gone = worker.gone();
        let run = async move {
            let begun = begun.unwrap_or_else(|| oneshot::channel().0);
            let mut run = std::pin::pin!(worker.run(&order, streams, &control, begun));
            let mut passing = std::pin::pin!(passing);
            let ended = tokio::select! {
                biased;
                ended = &mut run => ended,
                // Nothing more is written, and it has not ended yet.
                () = &mut passing => return run.await,
            };
            // What is left when its process is gone is passed on, and no more comes; if nobody reads it, it is lost.
            let _ = tokio::time::timeout(PASSES, passing).await;
            ended
        };
        Ok((gone, run))
    }
}

/// Does what takes its time where it keeps nobody waiting. An event loop of one thread has nobody to keep; it may be one
/// that has yet to give up what another thread would then still have.
async fn beside_others<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The event loop ends, and with it all that waits.
                Err(_) => std::future::pending().await,
            },
        },
    }
}

/// Starts a child, and tells its number and its end.
fn start_child(
    program: &PathBuf,
    args: &[String],
    socket: std::os::unix::net::UnixStream,
    wanted: watch::Receiver<ProcessSignal>,
) -> io::Result<(u32, Gone)> {
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(OwnedFd::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok((child.id().unwrap_or_default(), watch_over(child, wanted)))
}

/// Has another process start it.
async fn ask_for_child(
    spawner: &Arc<Spawner>,
    socket: std::os::unix::net::UnixStream,
    mut wanted: watch::Receiver<ProcessSignal>,
) -> io::Result<(u32, Gone)> {
    let files = [socket.into(), nowhere()?, nowhere()?];
    let asked = spawner.ask(What::Guest, files)?;
    let signal = asked.signaller();
    let pid = asked.started.await.map_err(io::Error::other)??;
    let (tell, gone) = watch::channel(None);
    let mut ended = asked.ended;
    tokio::spawn(async move {
        let status = loop {
            tokio::select! {
                status = &mut ended => break status,
                wanted = next(&mut wanted) => signal(wanted),
            }
        };
        if let Ok(status) = status {
            tell.send_replace(Some(status));
        }
    });
    Ok((pid, Gone(gone)))
}

/// Waits until a process is to do something else. Nobody wants one any more whose owner is gone.
async fn next(wanted: &mut watch::Receiver<ProcessSignal>) -> ProcessSignal {
    match wanted.changed().await {
        Ok(()) => *wanted.borrow_and_update(),
        Err(_) if *wanted.borrow() == ProcessSignal::Ends => std::future::pending().await,
        Err(_) => ProcessSignal::Ends,
    }
}

/// Waits for a process in a task of its own, which signals it when it is told to.
fn watch_over(mut child: Child, mut wanted: watch::Receiver<ProcessSignal>) -> Gone {
    let (tell, gone) = watch::channel(None);
    tokio::spawn(async move {
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break ended,
                wanted = next(&mut wanted) => {
                    // One that has ended meanwhile has no number, and needs no signal.
                    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
                    pid.map(|pid| rustix::process::kill_process(pid, wanted.signal()));
                }
            }
        };
        if let Ok(status) = ended {
            tell.send_replace(Some(status));
        }
    });
    Gone(gone)
}

fn failed(source: io::Error) -> EngineError {
    EngineError::Worker { source }
}
