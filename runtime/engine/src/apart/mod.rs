//! Runs a program in a process of its own, for what only a process can have: another user, a seccomp
//! profile, other namespaces.
//!
//! ```text
//! Worker::spawn(Network) ==socket==> work: enters its namespaces
//! Worker::run(Order)     ==files===> run: opens what is granted, raises the wall, calls the guest
//!     <--Begun, Ended--  Control's switches -->       the gauge is memory that both have
//! ```

mod link;
mod seccomp;
mod wall;
mod worker;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use mote_spec::{Digest, ExitStatus, Policy};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::control::Control;
use crate::error::EngineError;
use crate::gauge::Gauge;
use crate::profile::{Counting, Profile};
use crate::run::{Outcome, Process};

use link::Link;
pub use seccomp::SeccompProfile;
pub use wall::{User, Wall};
pub use worker::work;

/// A program that calls `work` with its standard input when it is started with these arguments.
#[derive(Debug, Clone)]
pub struct WorkIn {
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// The network namespace of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// That of whoever starts it.
    Inherited,
    Fresh,
    /// The one that a file stands for.
    Join(PathBuf),
}

/// What is to be run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The code cache, which has the program.
    pub cache: PathBuf,
    pub program: Digest,
    pub profile: Profile,
    pub counting: Counting,
    pub policy: Policy,
    pub process: Process,
    /// Whether the guest is told that it talks to a terminal.
    pub terminal: bool,
    pub wall: Wall,
}

/// What a process says of itself and its guest.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// It is in its namespaces.
    Ready,
    /// The guest stands.
    Begun,
    Ended(Outcome),
    /// It cannot do what it was told.
    Failed(String),
}

/// A process that is to run one guest. It ends when this is dropped.
pub struct Worker {
    child: Child,
    link: Link,
    gauge: Arc<Gauge>,
    memory: OwnedFd,
}

impl Worker {
    /// Starts a process, and waits until it is in its namespaces. Must be called by a thread that lives as
    /// long as the process is to: it dies with that thread.
    ///
    /// # Errors
    /// Fails if it cannot be started, or cannot enter them.
    pub async fn spawn(how: &WorkIn, network: &Network) -> Result<Worker, EngineError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        let child = Command::new(&how.program)
            .args(&how.args)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (gauge, memory) = Gauge::shared().map_err(failed)?;
        let link = Link::new(ours).map_err(failed)?;
        let mut worker = Worker { child, link, gauge: Arc::new(gauge), memory };
        // One that dies at once says nothing, and hears nothing.
        let _ = worker.link.send(network).await;
        match worker.link.next().await.map_err(failed)? {
            Some(Said::Ready) => Ok(worker),
            Some(Said::Failed(why)) => Err(EngineError::Apart { why }),
            Some(Said::Begun | Said::Ended(_)) => Err(failed(io::ErrorKind::InvalidData.into())),
            None => Err(EngineError::Apart { why: worker.end().await.1 }),
        }
    }

    /// The process; 0 once it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
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
        if self.tell(order, streams).await.is_err() {
            return Err(EngineError::Apart { why: self.end().await.1 });
        }
        loop {
            let said = tokio::select! {
                said = self.link.next() => said.map_err(failed)?,
                () = control.changed() => {
                    // One that has died is found out above.
                    let _ = self.link.send(&control.switches()).await;
                    continue;
                }
            };
            match said {
                Some(Said::Begun) => drop(begun.take().map(|begun| begun.send(()))),
                Some(Said::Ended(outcome)) => return Ok(outcome),
                Some(Said::Failed(why)) => return Err(EngineError::Apart { why }),
                Some(Said::Ready) => return Err(failed(io::ErrorKind::InvalidData.into())),
                None if begun.is_some() => {
                    return Err(EngineError::Apart { why: self.end().await.1 });
                }
                None => {
                    let (status, why) = self.end().await;
                    return Ok(Outcome { detail: Some(why), ..Outcome::of_status(status) });
                }
            }
        }
    }

    /// Tells what is to be run. The streams are the process's alone then: their other ends hear of its end.
    async fn tell(&mut self, order: &Order, streams: [OwnedFd; 3]) -> io::Result<()> {
        let [input, output, error] = &streams;
        let files = [input.as_fd(), output.as_fd(), error.as_fd(), self.memory.as_fd()];
        self.link.send_files(files).await?;
        self.link.send(order).await
    }

    /// How a process has ended that did not say so, and why.
    async fn end(mut self) -> (ExitStatus, String) {
        /// What a filter kills with.
        const SIGSYS: i32 = 31;
        const SIGKILL: i32 = 9;
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return (ExitStatus::Killed, format!("its process is lost: {error}")),
        };
        match status.signal() {
            Some(SIGKILL) => (ExitStatus::Killed, "its process was killed".to_owned()),
            Some(SIGSYS) => {
                let why = "its process made a system call that its seccomp profile kills for";
                (ExitStatus::Trapped, why.to_owned())
            }
            _ => (ExitStatus::Trapped, format!("its process ended by itself: {status}")),
        }
    }
}

fn failed(source: io::Error) -> EngineError {
    EngineError::Worker { source }
}
