//! Drives one container: takes commands one at a time, saves what they change, and then acts.
//!
//! One task per container, and the only caller of `Record::after`. What is acknowledged was saved; what
//! could not be saved did not happen. An end that cannot be saved is tried again until it can.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use mote_engine::{Control, Gauge};
use mote_spec::{ContainerName, ExitStatus, Policy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::health::HealthStatus;
use crate::keep::{Keep, RecordsError};
use crate::pool::Resources;
use crate::record::{Record, Time, Wanted};
use crate::restart::{Backoff, RestartPolicy};
use crate::setup::Removal;
use crate::status::{Event, Refused, Status};

/// How many commands may wait for a container.
const COMMANDS_AHEAD: usize = 16;
/// How long until an end that could not be saved is saved again.
const SAVE_AGAIN: Duration = Duration::from_secs(1);

/// What runs a container's guest: the engine, or a test's that pretends to.
pub trait Workload: Send + Sync + 'static {
    /// Prepares a run of what the record says. The error is for a person.
    fn start(&self, record: &Record) -> impl Future<Output = Result<Running, String>> + Send;
}

/// A guest that runs while it is polled, and is gone when it is dropped.
pub struct Running {
    pub guest: Pin<Box<dyn Future<Output = Ended> + Send>>,
    pub control: Arc<Control>,
    pub gauge: Arc<Gauge>,
}

/// How long a start waits to see whether the guest stands. One that takes longer is told of later.
const STANDS: Duration = Duration::from_secs(1);

impl Running {
    /// A guest that runs in a task of its own, once it stands: `begun` is told then. It ends when this is
    /// dropped.
    ///
    /// # Errors
    /// Fails with a text for a person if it does not get as far as its first instruction.
    pub async fn of_task(
        task: JoinHandle<Ended>,
        begun: oneshot::Receiver<()>,
        (gauge, control): (Arc<Gauge>, Arc<Control>),
    ) -> Result<Running, String> {
        let mut guest = Task(task);
        if let Ok(Err(_)) = tokio::time::timeout(STANDS, begun).await {
            // It has ended before it began.
            let ended = (&mut guest).await;
            if ended.status == ExitStatus::NotStarted {
                return Err(ended.detail.unwrap_or_else(|| ended.status.to_string()));
            }
            return Ok(Running { guest: Box::pin(std::future::ready(ended)), control, gauge });
        }
        Ok(Running { guest: Box::pin(guest), control, gauge })
    }
}

/// A guest's task, which ends when this is dropped.
struct Task(JoinHandle<Ended>);

impl Future for Task {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        Pin::new(&mut self.0).poll(cx).map(|ended| {
            ended.unwrap_or_else(|error| Ended {
                status: ExitStatus::Killed,
                detail: Some(format!("its task ended before it: {error}")),
            })
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub status: ExitStatus,
    pub detail: Option<String>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("it could not be started: {0}")]
    Start(String),
    #[error("the container is gone")]
    Gone,
}

#[derive(Debug)]
enum Command {
    Start,
    /// Recovery starts what its policy wants to run.
    StartAgain,
    /// Ends the guest at once, and says in the record how.
    End(ExitStatus),
    /// Ends it if it runs, and starts it.
    Restart,
    /// It is not to be started again when it ends.
    LetEnd,
    /// Ends the guest as if it had failed: its restart policy decides.
    Fail(Box<Ended>),
    /// Ends it so, and starts it again after a pause, whatever its policy says.
    FailAndRestart(Box<Ended>),
    /// Ends the guest with its host; whether it is wanted is as before.
    EndWithHost,
    Pause,
    Unpause,
    Update(Box<Change>),
    Rename(ContainerName),
    Health(HealthStatus),
    Remove,
}

/// What can be changed of a container besides its name.
#[derive(Debug, Default)]
pub struct Change {
    pub policy: Option<Policy>,
    pub restart: Option<RestartPolicy>,
    /// What the host has to have for it.
    pub requires: Option<Resources>,
}

type Reply = oneshot::Sender<Result<(), DriveError>>;

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
        let driver = Driver {
            keep,
            workload,
            commands,
            deferred: VecDeque::new(),
            record: record_sender,
            gauge: gauge_sender,
            running: None,
            unsaved: None,
            replaced: false,
            restart_at: None,
            waiting: Arc::default(),
            backoff: Backoff::new(),
        };
        let waiting = Arc::clone(&driver.waiting);
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

/// An end that the records do not tell of yet.
struct Unsaved {
    ended: Ended,
    wanted: Wanted,
}

struct Driver<K, W> {
    keep: Arc<K>,
    workload: Arc<W>,
    commands: mpsc::Receiver<(Command, Reply)>,
    /// Commands that came during a start, and wait for its end.
    deferred: VecDeque<(Command, Reply)>,
    record: watch::Sender<Arc<Record>>,
    gauge: watch::Sender<Arc<Gauge>>,
    running: Option<Running>,
    unsaved: Option<Unsaved>,
    /// Somebody else changed the record, and drives the container now.
    replaced: bool,
    restart_at: Option<tokio::time::Instant>,
    /// Whether `restart_at` is set, for whoever looks on.
    waiting: Arc<AtomicBool>,
    backoff: Backoff,
}

impl<K: Keep, W: Workload> Driver<K, W> {
    async fn run(mut self) {
        let mut held = true;
        loop {
            self.waiting.store(self.restart_at.is_some(), Ordering::Relaxed);
            if self.is_over() {
                self.remove_ended().await;
            }
            let busy = self.running.is_some()
                || self.unsaved.is_some()
                || self.restart_at.is_some()
                || self.is_over();
            let gone = self.replaced || self.current().status() == Status::Removed;
            if gone || !(held || busy) {
                return;
            }
            tokio::select! {
                biased;
                command = next(&mut self.deferred, &mut self.commands), if held => match command {
                    Some((command, reply)) => {
                        let result = self.carry_out(command).await;
                        // Whoever asked may have gone; what was done stands.
                        let _ = reply.send(result);
                    }
                    None => held = false,
                },
                ended = next_end(&mut self.running) => {
                    self.running = None;
                    self.ended(ended).await;
                }
                () = tokio::time::sleep(SAVE_AGAIN), if self.unsaved.is_some() || self.is_over() => {
                    if let Some(unsaved) = self.unsaved.take() {
                        // It is kept again if it fails again.
                        let _ = self.save_end(unsaved).await;
                    }
                }
                () = sleep_until(self.restart_at), if self.restart_at.is_some() => {
                    self.restart_at = None;
                    self.restart().await;
                }
            }
        }
    }

    /// Whether it has ended for good, and its host is to remove it.
    fn is_over(&self) -> bool {
        let current = self.current();
        current.setup.removal == Removal::AtEnd
            && matches!(current.status(), Status::Stopped(_))
            && self.restart_at.is_none()
            && self.unsaved.is_none()
    }

    async fn remove_ended(&mut self) {
        if let Ok(next) = self.current().after(Event::Remove, Time::now()) {
            // It is tried again where it fails.
            let _ = self.save(next).await;
        }
    }

    fn current(&self) -> Arc<Record> {
        Arc::clone(&self.record.borrow())
    }

    /// Saves a record; only then is it the current one.
    async fn save(&mut self, next: Record) -> Result<(), RecordsError> {
        let saved = match next.status() {
            Status::Removed => self.keep.delete(&self.current(), &next).await,
            Status::Created | Status::Running | Status::Paused | Status::Stopped(_) => {
                self.keep.update(&self.current(), &next).await
            }
        };
        // What another process drives, this one does not: its guest goes with this driver.
        self.replaced |= matches!(saved, Err(RecordsError::Stale(_)));
        saved?;
        self.record.send_replace(Arc::new(next));
        Ok(())
    }

    async fn carry_out(&mut self, command: Command) -> Result<(), DriveError> {
        // What the guest did comes before what is wanted of it now.
        if let Some(unsaved) = self.unsaved.take() {
            self.save_end(unsaved).await?;
        }
        let (current, now) = (self.current(), Time::now());
        match command {
            Command::Start => self.start_anew(&current, now).await,
            Command::StartAgain => {
                let next = current.after(Event::Start, now)?;
                let restarts = current.restarts.saturating_add(1);
                self.start(next.changed_before_save(|next| next.restarts = restarts)).await
            }
            Command::Restart => {
                if current.status().is_live() {
                    self.end(&current, ExitStatus::Stopped, Wanted::Up).await?;
                }
                self.start_anew(&self.current(), Time::now()).await
            }
            Command::End(how) => self.end(&current, how, Wanted::Down).await,
            Command::Fail(ended) => {
                if current.status().is_live() {
                    self.running = None;
                    let unsaved = Unsaved { ended: *ended, wanted: current.wanted };
                    self.save_end(unsaved).await?;
                }
                Ok(())
            }
            Command::FailAndRestart(ended) => {
                if current.status().is_live() {
                    self.running = None;
                    let unsaved = Unsaved { ended: *ended, wanted: current.wanted };
                    self.save_end(unsaved).await?;
                    if self.restart_at.is_none() && current.wanted == Wanted::Up {
                        let ran = current.started.map_or(Duration::ZERO, |from| now.since(from));
                        self.restart_after(ran, now);
                    }
                }
                Ok(())
            }
            Command::EndWithHost => match current.status().is_live() {
                true => self.end(&current, ExitStatus::Stopped, current.wanted).await,
                false => {
                    self.restart_at = None;
                    Ok(())
                }
            },
            Command::LetEnd => {
                self.save(current.changed(|next| next.wanted = Wanted::Down)).await?;
                self.restart_at = None;
                Ok(())
            }
            Command::Pause => {
                self.save(current.after(Event::Pause, now)?).await?;
                self.running.iter().for_each(|running| running.control.pause());
                Ok(())
            }
            Command::Unpause => {
                self.save(current.after(Event::Unpause, now)?).await?;
                self.running.iter().for_each(|running| running.control.unpause());
                Ok(())
            }
            Command::Update(change) => {
                let Change { policy, restart, requires } = *change;
                let next = current.changed(|next| {
                    next.restart = restart.unwrap_or(next.restart);
                    next.setup.requires = requires.unwrap_or(next.setup.requires);
                    if let Some(policy) = policy {
                        next.policy = policy;
                    }
                });
                let limits = *next.policy.limits();
                let again = next
                    .ending()
                    .is_some_and(|how| next.restart.restarts(how, next.wanted, next.restarts));
                self.save(next).await?;
                // A policy that no longer starts it again takes back what the one before meant to do.
                self.restart_at = self.restart_at.filter(|_| again);
                self.running.iter().for_each(|running| running.control.apply(&limits));
                Ok(())
            }
            Command::Health(health) => {
                // A probe that comes too late is about a run that has ended.
                if current.status().is_live() && current.health != Some(health) {
                    self.save(current.changed(|next| next.health = Some(health))).await?;
                }
                Ok(())
            }
            Command::Rename(name) => {
                self.save(current.changed(|next| next.name = name)).await?;
                Ok(())
            }
            Command::Remove => {
                self.save(current.after(Event::Remove, now)?).await?;
                Ok(())
            }
        }
    }

    /// Starts it by somebody's hand, which forgets what came before.
    async fn start_anew(&mut self, current: &Record, now: Time) -> Result<(), DriveError> {
        let next = current.after(Event::Start, now)?;
        self.backoff = Backoff::new();
        self.start(next.changed_before_save(|next| next.restarts = 0)).await
    }

    /// Saves that the container runs, and runs it.
    async fn start(&mut self, next: Record) -> Result<(), DriveError> {
        self.save(next.changed_before_save(|next| next.wanted = Wanted::Up)).await?;
        self.restart_at = None;
        let (workload, current) = (Arc::clone(&self.workload), self.current());
        let started = tokio::select! {
            biased;
            started = workload.start(&current) => started,
            // To load and compile a program may take longer than anybody waits for an end.
            (how, wanted, reply) = self.next_end() => {
                let ended = self.end(&current, how, wanted.unwrap_or(current.wanted)).await;
                // Whoever asked may have gone; it has ended all the same.
                let _ = reply.send(ended);
                return Err(DriveError::Start(format!("it {how} while it was being started")));
            }
        };
        match started {
            Ok(running) => {
                self.gauge.send_replace(Arc::clone(&running.gauge));
                self.running = Some(running);
                Ok(())
            }
            Err(why) => {
                let status = ExitStatus::NotStarted;
                self.ended(Ended { status, detail: Some(why.clone()) }).await;
                Err(DriveError::Start(why))
            }
        }
    }

    /// Waits for a command that ends the container; what else comes is carried out later.
    async fn next_end(&mut self) -> (ExitStatus, Option<Wanted>, Reply) {
        while self.deferred.len() < COMMANDS_AHEAD {
            match self.commands.recv().await {
                Some((Command::End(how), reply)) => return (how, Some(Wanted::Down), reply),
                // There is nothing yet that could end of itself.
                Some((Command::LetEnd, reply)) => {
                    return (ExitStatus::Stopped, Some(Wanted::Down), reply);
                }
                Some((Command::EndWithHost, reply)) => return (ExitStatus::Stopped, None, reply),
                Some(other) => self.deferred.push_back(other),
                None => break,
            }
        }
        std::future::pending().await
    }

    /// Ends the guest by somebody's hand, and any thought of starting it again.
    ///
    /// The guest ends also where that cannot be saved, since it may be what fills the disk; the record
    /// follows as soon as it can.
    async fn end(
        &mut self,
        current: &Record,
        how: ExitStatus,
        wanted: Wanted,
    ) -> Result<(), DriveError> {
        let next = current.after(Event::Exit(how), Time::now())?;
        let saved = self.save(next.changed_before_save(|next| next.wanted = wanted)).await;
        self.restart_at = None;
        self.running = None;
        if let Err(error) = saved {
            let ended = Ended { status: how, detail: None };
            self.unsaved = Some(Unsaved { ended, wanted });
            return Err(error.into());
        }
        Ok(())
    }

    /// Records an end that was the guest's own; one that cannot be recorded is kept for later.
    async fn ended(&mut self, ended: Ended) {
        let wanted = self.current().wanted;
        // The error is for whoever gives a command; an end was nobody's.
        let _ = self.save_end(Unsaved { ended, wanted }).await;
    }

    async fn save_end(&mut self, unsaved: Unsaved) -> Result<(), RecordsError> {
        let Unsaved { ended, wanted } = &unsaved;
        let (current, now) = (self.current(), Time::now());
        let Ok(next) = current.after(Event::Exit(ended.status), now) else { return Ok(()) };
        let ran = current.started.map_or(Duration::ZERO, |started| now.since(started));
        // Failures count in a row: one that ran well for a while begins anew.
        let restarts = if ran >= Backoff::RECOVERED { 0 } else { current.restarts };
        let next = next.changed_before_save(|next| {
            next.wanted = *wanted;
            next.restarts = restarts;
            next.detail.clone_from(&ended.detail);
        });
        let (status, wanted) = (ended.status, *wanted);
        if let Err(error) = self.save(next).await {
            self.unsaved = Some(unsaved);
            return Err(error);
        }
        if current.restart.restarts(status, wanted, restarts) {
            self.restart_after(ran, now);
        }
        Ok(())
    }

    /// Starts it again after a pause, which grows with every quick end.
    fn restart_after(&mut self, ran: Duration, now: Time) {
        let pause = self.backoff.pause(ran, jitter(&self.current(), now));
        self.restart_at = Some(tokio::time::Instant::now() + pause);
    }

    async fn restart(&mut self) {
        let current = self.current();
        let Ok(next) = current.after(Event::Start, Time::now()) else { return };
        let next = next.changed_before_save(|next| next.restarts = current.restarts + 1);
        match self.start(next).await {
            // Its end was recorded, and decided on, by `start`.
            Ok(()) | Err(DriveError::Start(_)) => {}
            Err(_) => self.restart_at = Some(tokio::time::Instant::now() + SAVE_AGAIN),
        }
    }
}

/// Something between 0 and 1 that differs from container to container and from time to time.
fn jitter(record: &Record, now: Time) -> f64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (record.id.as_str(), now).hash(&mut hasher);
    (hasher.finish() % 1000) as f64 / 1000.0
}

/// The next command: one that waited before one that comes.
async fn next(
    deferred: &mut VecDeque<(Command, Reply)>,
    commands: &mut mpsc::Receiver<(Command, Reply)>,
) -> Option<(Command, Reply)> {
    match deferred.pop_front() {
        Some(command) => Some(command),
        None => commands.recv().await,
    }
}

async fn next_end(running: &mut Option<Running>) -> Ended {
    match running {
        Some(running) => running.guest.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
