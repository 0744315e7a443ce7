//! Drives one container: takes commands one at a time, saves what they change, and then acts.
//!
//! One task per container, and the only caller of `Record::after`. What is acknowledged was saved; what
//! could not be saved did not happen. An end that cannot be saved is tried again until it can.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mote_engine::Gauge;
use mote_spec::ExitStatus;
use tokio::sync::{mpsc, watch};

use crate::command::{COMMANDS_AHEAD, Change, Command, DriveError, Ends, Reply};
use crate::keep::{Keep, RecordsError};
use crate::record::Record;
use crate::restart::Backoff;
use crate::restart::DesiredState;
use crate::setup::Removal;
use crate::status::{Event, Status};
use crate::time::Time;
use crate::workload::{Ended, Running, Workload};

/// How long until an end that could not be saved is saved again.
const SAVE_AGAIN: Duration = Duration::from_secs(1);

/// An end that the records do not tell of yet.
struct Unsaved {
    ended: Ended,
    wanted: DesiredState,
}

/// The task that has a container.
pub(crate) struct Driver<K, W> {
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
    pub(crate) fn new(keep: Arc<K>, workload: Arc<W>, ends: Ends) -> Driver<K, W> {
        let Ends { commands, record, gauge, waiting } = ends;
        Driver {
            keep,
            workload,
            commands,
            deferred: VecDeque::new(),
            record,
            gauge,
            running: None,
            unsaved: None,
            replaced: false,
            restart_at: None,
            waiting,
            backoff: Backoff::new(),
        }
    }

    pub(crate) async fn run(mut self) {
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
                    self.end(&current, ExitStatus::Stopped, DesiredState::Up).await?;
                }
                self.start_anew(&self.current(), Time::now()).await
            }
            Command::End(how) => self.end(&current, how, DesiredState::Down).await,
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
                    if self.restart_at.is_none() && current.wanted == DesiredState::Up {
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
                self.save(current.changed(|next| next.wanted = DesiredState::Down)).await?;
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
        self.save(next.changed_before_save(|next| next.wanted = DesiredState::Up)).await?;
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
    async fn next_end(&mut self) -> (ExitStatus, Option<DesiredState>, Reply) {
        while self.deferred.len() < COMMANDS_AHEAD {
            match self.commands.recv().await {
                Some((Command::End(how), reply)) => return (how, Some(DesiredState::Down), reply),
                // There is nothing yet that could end of itself.
                Some((Command::LetEnd, reply)) => {
                    return (ExitStatus::Stopped, Some(DesiredState::Down), reply);
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
        wanted: DesiredState,
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
