//! A container that is being driven, for whoever commands it and looks at it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mote_engine::Gauge;
use mote_spec::{ContainerName, ExitStatus};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{COMMANDS_AHEAD, Change, Command, DriveError, Ends, Reply};
use crate::driver::Driver;
use crate::health::HealthStatus;
use crate::keep::Keep;
use crate::record::Record;
use crate::workload::{Ended, Workload};

/// A container that is being driven. Cheap to clone.
#[derive(Clone)]
pub struct Container {
    commands: mpsc::Sender<(Command, Reply)>,
    record: watch::Receiver<Arc<Record>>,
    gauge: watch::Receiver<Arc<Gauge>>,
    waiting: Arc<AtomicBool>,
}

impl Container {
    /// Drives a container from what is recorded of it. The task is the caller's to spawn; it ends
    /// when the container is removed, or when nobody holds it and its guest has ended.
    pub fn drive<K: Keep, W: Workload>(
        record: Record,
        keep: Arc<K>,
        workload: Arc<W>,
    ) -> (Container, impl Future<Output = ()> + Send) {
        let (sender, commands) = mpsc::channel(COMMANDS_AHEAD);
        let (record_sender, record) = watch::channel(Arc::new(record));
        let (gauge_sender, gauge) = watch::channel(Arc::default());
        let waiting = Arc::<AtomicBool>::default();
        let ends = Ends {
            commands,
            record: record_sender,
            gauge: gauge_sender,
            waiting: Arc::clone(&waiting),
        };
        let driver = Driver::new(keep, workload, ends);
        (Container { commands: sender, record, gauge, waiting }, driver.run())
    }

    /// The record as it was saved last.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.borrow())
    }

    /// What the guest uses, and used in its last run.
    pub fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.gauge.borrow())
    }

    /// Whether it has ended, and is about to be started again by its policy.
    pub fn waits_to_restart(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until the record says something, and returns it.
    pub async fn wait(&self, until: impl Fn(&Record) -> bool) -> Result<Arc<Record>, DriveError> {
        let mut record = self.record.clone();
        let found = record.wait_for(|record| until(record)).await.map_err(|_| DriveError::Gone)?;
        Ok(Arc::clone(&found))
    }

    pub async fn start(&self) -> Result<(), DriveError> {
        self.send(Command::Start).await
    }

    /// Starts what was lost with its host, or is started with it; counts as one of its restarts.
    pub async fn start_again(&self) -> Result<(), DriveError> {
        self.send(Command::StartAgain).await
    }

    /// Ends the guest; a container that has ended is left as it is.
    pub async fn stop(&self) -> Result<(), DriveError> {
        self.send(Command::End(ExitStatus::Stopped)).await
    }

    pub async fn kill(&self) -> Result<(), DriveError> {
        self.send(Command::End(ExitStatus::Killed)).await
    }

    pub async fn pause(&self) -> Result<(), DriveError> {
        self.send(Command::Pause).await
    }

    pub async fn unpause(&self) -> Result<(), DriveError> {
        self.send(Command::Unpause).await
    }

    /// Ends the guest if it runs, and starts it again.
    pub async fn restart(&self) -> Result<(), DriveError> {
        self.send(Command::Restart).await
    }

    /// Notes that the container is to end: when it does, it is not started again.
    pub async fn let_end(&self) -> Result<(), DriveError> {
        self.send(Command::LetEnd).await
    }

    /// Ends a guest that does not do what it should: its restart policy decides what comes next.
    pub async fn fail(&self, ended: Ended) -> Result<(), DriveError> {
        self.send(Command::Fail(Box::new(ended))).await
    }

    /// Ends a guest that does not do what it should, and starts it again after a pause.
    pub async fn fail_and_restart(&self, ended: Ended) -> Result<(), DriveError> {
        self.send(Command::FailAndRestart(Box::new(ended))).await
    }

    /// Ends the guest because its host ends. What is wanted of the container stays as it is, so that
    /// the next host can go by its policy.
    pub async fn end_with_host(&self) -> Result<(), DriveError> {
        self.send(Command::EndWithHost).await
    }

    /// Notes how the container is.
    pub async fn note_health(&self, health: HealthStatus) -> Result<(), DriveError> {
        self.send(Command::Health(health)).await
    }

    /// Holds the container to something else from now on. A running guest feels the limits of memory,
    /// CPU and network at once, and the rest when it is started again.
    pub async fn update(&self, change: Change) -> Result<(), DriveError> {
        self.send(Command::Update(Box::new(change))).await
    }

    pub async fn rename(&self, name: ContainerName) -> Result<(), DriveError> {
        self.send(Command::Rename(name)).await
    }

    pub async fn remove(&self) -> Result<(), DriveError> {
        self.send(Command::Remove).await
    }

    async fn send(&self, command: Command) -> Result<(), DriveError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send((command, reply)).await.map_err(|_| DriveError::Gone)?;
        answer.await.map_err(|_| DriveError::Gone)?
    }
}
