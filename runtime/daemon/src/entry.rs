//! One container of the daemon: its driver, its streams, and what runs beside it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mote_engine::{Control, Gauge};
use mote_lifecycle::{Container, Record, Time, Usage};

use crate::console::Console;
use crate::error::DaemonError;
use crate::guest::Guest;

/// A container of this daemon.
pub(crate) struct Entry {
    pub(crate) container: Container,
    pub(crate) console: Arc<Console>,
    pub(crate) guest: Arc<Guest>,
    pub(crate) health: Mutex<mote_lifecycle::Health>,
    /// Held while limits are changed: each change begins with what the one before left.
    pub(crate) changing: tokio::sync::Mutex<()>,
    beside: Mutex<Besides>,
}

/// Something that runs beside a container, with what it uses and its switches.
pub(crate) struct Beside {
    pub(crate) role: Role,
    pub(crate) control: Arc<Control>,
    pub(crate) gauge: Arc<Gauge>,
}

/// What something beside a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Exec,
    Probe,
}

/// All that runs beside a container, and what those have used that have ended.
#[derive(Default)]
struct Besides {
    running: Vec<Arc<Beside>>,
    spent: Usage,
    /// The start of the run that it was spent in.
    run: Option<Time>,
}

/// How many execs may run beside a container: each may use as much as the container may.
const BESIDE: usize = 16;

impl Entry {
    pub(crate) fn new(container: Container, console: Arc<Console>, guest: Arc<Guest>) -> Entry {
        let (health, changing, beside) = (Mutex::default(), Default::default(), Mutex::default());
        Entry { container, console, guest, health, changing, beside }
    }

    pub(crate) fn record(&self) -> Arc<Record> {
        self.container.record()
    }

    /// What was found of its health.
    pub(crate) fn health_now(&self) -> mote_lifecycle::HealthStatus {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).status
    }

    fn besides(&self) -> MutexGuard<'_, Besides> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs beside it now.
    pub(crate) fn beside(&self) -> Vec<Arc<Beside>> {
        self.besides().running.clone()
    }

    /// Notes something that runs beside it, until it leaves.
    ///
    /// # Errors
    /// Fails if there is as much as may be.
    pub(crate) fn join(self: &Arc<Entry>, one: Beside) -> Result<Joined, DaemonError> {
        let one = Arc::new(one);
        let mut besides = self.besides();
        let execs = besides.running.iter().filter(|other| other.role == Role::Exec).count();
        // A probe, of which there is one at a time, must not fail since others are busy.
        if one.role == Role::Exec && execs >= BESIDE {
            let name = &self.record().name;
            return Err(DaemonError::Conflict(format!("{BESIDE} execs run beside {name} already")));
        }
        besides.running.push(Arc::clone(&one));
        Ok(Joined { entry: Arc::clone(self), one })
    }

    /// What it uses, with all that runs beside it.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::from(&*self.container.gauge());
        let besides = self.besides();
        if besides.run == self.record().started {
            add_spent(&mut usage, besides.spent);
        }
        for one in &besides.running {
            let beside = Usage::from(&*one.gauge);
            add_spent(&mut usage, beside);
            usage.memory += beside.memory;
        }
        usage.memory_peak = usage.memory_peak.max(usage.memory);
        usage
    }

    /// Pauses it, and what runs beside it.
    pub(crate) async fn pause(&self) -> Result<(), DaemonError> {
        self.container.pause().await?;
        self.beside().iter().for_each(|one| one.control.pause());
        Ok(())
    }

    pub(crate) async fn unpause(&self) -> Result<(), DaemonError> {
        self.container.unpause().await?;
        self.beside().iter().for_each(|one| one.control.unpause());
        Ok(())
    }
}

/// The place of something beside a container, which it leaves when this is dropped.
pub(crate) struct Joined {
    entry: Arc<Entry>,
    one: Arc<Beside>,
}

impl Joined {
    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.one.control)
    }

    pub(crate) fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.one.gauge)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let run = self.entry.record().started;
        let mut besides = self.entry.besides();
        if besides.run != run {
            (besides.run, besides.spent) = (run, Usage::default());
        }
        add_spent(&mut besides.spent, Usage::from(&*self.one.gauge));
        besides.running.retain(|other| !Arc::ptr_eq(other, &self.one));
    }
}

/// Adds what only ever grows: an end does not give it back.
fn add_spent(to: &mut Usage, more: Usage) {
    let Usage { memory: _, memory_peak: _, cpu_nanos, stored: _, received, sent } = more;
    to.cpu_nanos += cpu_nanos;
    to.received += received;
    to.sent += sent;
}
