//! One container of a pod, Wasm or native, and what is run beside it: what both have in common.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use mote_lifecycle::{Change, DriveError, Usage};
use mote_spec::ExitStatus;
use oci_spec::runtime;
use tokio::sync::{Mutex, watch};

use crate::bundle;
use crate::error::ShimError;
use crate::metrics::{self, Hierarchy};
use crate::native::{self, Native};
use crate::paths::Paths;
use crate::phase::Phase;
use crate::wasm::{self, Wasm};

/// A container.
pub(crate) struct Task {
    kind: Kind,
    /// How many calls are under way. Whoever removes the container waits for their end, since containerd
    /// then hangs up.
    calls: watch::Sender<usize>,
    /// Held by whoever removes it; whether it is removed.
    removed: Mutex<bool>,
}

/// A call that is under way, until it is dropped.
pub(crate) struct UnderWay(Arc<Task>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.calls.send_modify(|calls| *calls -= 1);
    }
}

/// How long a call may hold up the removal of what has ended.
const CALLS: Duration = Duration::from_secs(5);

enum Kind {
    /// In this process.
    Wasm(Arc<Wasm>),
    /// In a process of its own, which the OCI runtime has made.
    Native(Arc<Native>),
}

/// Something that runs beside a container.
pub(crate) enum Exec {
    Wasm(Arc<wasm::Exec>),
    Native(Arc<native::Process>),
}

/// What a signal does to a guest, which has none of its own: what ends a process ends it, and what
/// tells a process something, or stops and continues it, does nothing (signal(7)).
fn end_of_guest(signal: u32) -> Option<ExitStatus> {
    /// SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG and SIGWINCH; 0 only asks.
    const NO_END: [u32; 9] = [0, 17, 18, 19, 20, 21, 22, 23, 28];
    match signal {
        9 => Some(ExitStatus::Killed),
        signal if NO_END.contains(&signal) => None,
        _ => Some(ExitStatus::Stopped),
    }
}

impl From<Wasm> for Task {
    fn from(task: Wasm) -> Task {
        Task::new(Kind::Wasm(Arc::new(task)))
    }
}

impl From<Native> for Task {
    fn from(task: Native) -> Task {
        Task::new(Kind::Native(Arc::new(task)))
    }
}

impl Task {
    fn new(kind: Kind) -> Task {
        Task { kind, calls: watch::Sender::new(0), removed: Mutex::default() }
    }

    /// Held by a call that is under way.
    pub(crate) fn under_way(self: &Arc<Task>) -> UnderWay {
        self.calls.send_modify(|calls| *calls += 1);
        UnderWay(Arc::clone(self))
    }

    /// Waits until no call is under way, as long as that may take.
    pub(crate) async fn quiet(&self) {
        let mut calls = self.calls.subscribe();
        // One that goes on then is about something that is no more.
        let _ = tokio::time::timeout(CALLS, calls.wait_for(|calls| *calls == 0)).await;
    }

    /// Waits for the end of what runs beside it, which ends with it.
    pub(crate) async fn execs_ended(&self) {
        if let Kind::Wasm(task) = &self.kind {
            task.execs_ended().await;
        }
    }

    pub(crate) fn id(&self) -> &str {
        match &self.kind {
            Kind::Wasm(task) => &task.id,
            Kind::Native(task) => &task.id,
        }
    }

    pub(crate) fn bundle(&self) -> &Path {
        match &self.kind {
            Kind::Wasm(task) => &task.bundle,
            Kind::Native(task) => &task.bundle,
        }
    }

    pub(crate) fn paths(&self) -> &Paths {
        match &self.kind {
            Kind::Wasm(task) => &task.paths,
            Kind::Native(task) => &task.init.paths,
        }
    }

    /// A process that is in the container's network namespace: its own, or this one.
    pub(crate) fn pid(&self) -> u32 {
        match &self.kind {
            Kind::Wasm(task) => task.pid,
            Kind::Native(task) => task.init.pid(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match &self.kind {
            Kind::Wasm(task) => task.phase(),
            Kind::Native(task) => task.init.phase(),
        }
    }

    pub(crate) async fn start(&self) -> Result<(), ShimError> {
        match self.phase() {
            Phase::Created => {}
            Phase::Running | Phase::Paused | Phase::Stopped { .. } => {
                return Err(ShimError::Precondition(format!("{} was started before", self.id())));
            }
        }
        match &self.kind {
            Kind::Wasm(task) if !task.begin() => {
                Err(ShimError::Precondition(format!("{} was killed before", task.id)))
            }
            Kind::Wasm(task) => match task.container.start().await {
                Err(DriveError::Start(why)) => Err(ShimError::Invalid(why)),
                started => Ok(started?),
            },
            Kind::Native(task) => task.start().await,
        }
    }

    /// Sends a signal. A guest has none: each ends it. True if it ended what had not been started, whose
    /// end nobody else tells of.
    pub(crate) async fn kill(&self, signal: u32, all: bool) -> Result<bool, ShimError> {
        if matches!(self.phase(), Phase::Stopped { .. }) {
            return Err(ShimError::NotFound(format!("process of {} already finished", self.id())));
        }
        match &self.kind {
            Kind::Wasm(task) => match end_of_guest(signal) {
                None => {}
                Some(_) if task.kill_unstarted() => return Ok(true),
                Some(ExitStatus::Killed) => task.container.kill().await?,
                Some(_) => task.container.stop().await?,
            },
            Kind::Native(task) => task.kill(signal, all).await?,
        }
        Ok(false)
    }

    pub(crate) async fn pause(&self) -> Result<(), ShimError> {
        match &self.kind {
            Kind::Wasm(task) => Ok(task.container.pause().await?),
            Kind::Native(task) => task.pause().await,
        }
    }

    pub(crate) async fn resume(&self) -> Result<(), ShimError> {
        match &self.kind {
            Kind::Wasm(task) => Ok(task.container.unpause().await?),
            Kind::Native(task) => task.resume().await,
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Phase {
        match &self.kind {
            Kind::Wasm(task) => task.ended().await,
            Kind::Native(task) => task.init.wait().await,
        }
    }

    /// Whether it has run out of memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match &self.kind {
            Kind::Wasm(task) => task.container.record().ending() == Some(ExitStatus::OutOfMemory),
            Kind::Native(task) => task.is_out_of_memory(),
        }
    }

    /// Removes what has ended, and unmounts what it saw. Whoever comes second waits, and is told that it is
    /// not there any more: a client may then hang up.
    pub(crate) async fn remove(&self) -> Result<(), ShimError> {
        let mut removed = self.removed.lock().await;
        if *removed {
            return Err(ShimError::NotFound(format!("container {}", self.id())));
        }
        self.remove_kind().await?;
        *removed = true;
        Ok(())
    }

    async fn remove_kind(&self) -> Result<(), ShimError> {
        match &self.kind {
            Kind::Wasm(task) => {
                task.container.remove().await?;
                task.unmount();
                Ok(())
            }
            Kind::Native(task) => task.remove().await,
        }
    }

    pub(crate) async fn update(&self, resources: &[u8]) -> Result<(), ShimError> {
        let resources: runtime::LinuxResources = serde_json::from_slice(resources)
            .map_err(|source| ShimError::Json { what: "the resources", source })?;
        match &self.kind {
            Kind::Wasm(task) => {
                let record = task.container.record();
                let ceiling = &task.settings.ceiling;
                let policy = record.policy.updated(bundle::limits(&resources)?, ceiling);
                let policy = policy.map_err(|error| ShimError::Invalid(error.to_string()))?;
                let change = Change { policy: Some(policy), ..Change::default() };
                Ok(task.container.update(change).await?)
            }
            Kind::Native(task) => task.update(&resources).await,
        }
    }

    pub(crate) fn stats(&self, hierarchy: Hierarchy) -> Any {
        match &self.kind {
            Kind::Wasm(task) => {
                let usage = Usage::from(&*task.container.gauge());
                let record = task.container.record();
                metrics::of_guest(
                    hierarchy,
                    &usage,
                    &metrics::Bounds {
                        memory: record.policy.limits().memory.get(),
                        out_of_memory: self.is_out_of_memory(),
                    },
                )
            }
            Kind::Native(task) => task.stats(hierarchy),
        }
    }

    /// The processes of the container.
    pub(crate) async fn pids(&self) -> Result<Vec<u32>, ShimError> {
        match &self.kind {
            Kind::Wasm(task) => Ok(task.pids()),
            Kind::Native(task) => task.pids().await,
        }
    }

    /// Ends the input of the container.
    pub(crate) fn close_input(&self) {
        match &self.kind {
            Kind::Wasm(task) => task.end_of_input.tell(),
            // The fifo is the process's own.
            Kind::Native(_) => {}
        }
    }

    /// Tells the size of a terminal. A guest is not told: WASI has no word for it.
    pub(crate) fn resize(&self, columns: u32, rows: u32) -> Result<(), ShimError> {
        match &self.kind {
            Kind::Wasm(_) => Ok(()),
            Kind::Native(task) => task.init.resize(columns, rows),
        }
    }

    pub(crate) fn exec(&self, id: &str) -> Result<Exec, ShimError> {
        match &self.kind {
            Kind::Wasm(task) => task.execs.find(id).map(Exec::Wasm),
            Kind::Native(task) => task.execs.find(id).map(Exec::Native),
        }
    }

    pub(crate) fn forget_exec(&self, id: &str) {
        match &self.kind {
            Kind::Wasm(task) => task.execs.forget(id),
            Kind::Native(task) => task.execs.forget(id),
        }
    }

    pub(crate) async fn add_exec(
        &self,
        id: &str,
        process: &[u8],
        paths: Paths,
    ) -> Result<(), ShimError> {
        let process: runtime::Process = serde_json::from_slice(process)
            .map_err(|source| ShimError::Json { what: "the process to run", source })?;
        match &self.kind {
            Kind::Wasm(task) => task.add_exec(id, &process, paths).await,
            Kind::Native(task) => task.add_exec(id, process, paths),
        }
    }

    pub(crate) async fn start_exec(&self, exec: &Exec) -> Result<(), ShimError> {
        match (&self.kind, exec) {
            (Kind::Wasm(task), Exec::Wasm(exec)) => task.start_exec(exec).await,
            (Kind::Native(task), Exec::Native(exec)) => task.start_exec(exec).await,
            (Kind::Wasm(_), Exec::Native(_)) | (Kind::Native(_), Exec::Wasm(_)) => {
                unreachable!("an exec is its task's own")
            }
        }
    }
}

impl Exec {
    pub(crate) fn paths(&self) -> &Paths {
        match self {
            Exec::Wasm(exec) => &exec.paths,
            Exec::Native(exec) => &exec.paths,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Exec::Wasm(exec) => exec.pid(),
            Exec::Native(exec) => exec.pid(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self {
            Exec::Wasm(exec) => exec.phase(),
            Exec::Native(exec) => exec.phase(),
        }
    }

    pub(crate) async fn wait(&self) -> Phase {
        match self {
            Exec::Wasm(exec) => exec.wait().await,
            Exec::Native(exec) => exec.wait().await,
        }
    }

    pub(crate) fn resize(&self, columns: u32, rows: u32) -> Result<(), ShimError> {
        match self {
            Exec::Wasm(_) => Ok(()),
            Exec::Native(exec) => exec.resize(columns, rows),
        }
    }

    pub(crate) fn kill(&self, signal: u32) -> Result<(), ShimError> {
        match self {
            Exec::Wasm(exec) => {
                if let Some(how) = end_of_guest(signal) {
                    exec.end(how);
                }
                Ok(())
            }
            Exec::Native(exec) => exec.kill(signal),
        }
    }

    pub(crate) fn close_input(&self) {
        match self {
            Exec::Wasm(exec) => exec.end_of_input.tell(),
            Exec::Native(_) => {}
        }
    }
}
