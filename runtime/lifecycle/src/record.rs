//! What is remembered of a container: all that it was made of, and where it is in its life.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mote_spec::{ContainerId, ContainerName, Digest, ExitStatus, Policy};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::health::HealthStatus;
use crate::restart::RestartPolicy;
use crate::setup::Setup;
use crate::status::{Event, Refused, Status};

/// A moment, in milliseconds since 1970; written as RFC 3339 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// The end of the year 9999, after which RFC 3339 has no moments.
const LAST: u64 = 253_402_300_799_999;

impl Time {
    /// So many milliseconds after the beginning of 1970.
    pub const fn at_millis(millis: u64) -> Time {
        Time(if millis < LAST { millis } else { LAST })
    }

    /// This moment. A clock before 1970 reads as 1970.
    pub fn now() -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::at_millis(u64::try_from(since.as_millis()).unwrap_or(LAST))
    }

    /// The moment so long before.
    pub fn before(self, span: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Milliseconds since the beginning of 1970.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// How long it is since an earlier moment.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The same moment for a clock.
    pub fn system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.system()).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Time::at_millis(u64::try_from(since.as_millis()).unwrap_or(LAST)))
    }
}

/// The image that a container was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As the operator named it.
    pub name: String,
    /// The program's digest.
    pub digest: Digest,
    /// The digest of the image's manifest; none where the program was a plain file.
    #[serde(default)]
    pub manifest: Option<Digest>,
    /// The image's own files, where it has some.
    #[serde(default)]
    pub files: Option<Files>,
}

/// An image's unpacked files, and which of them is the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    pub tree: PathBuf,
    pub program: PathBuf,
}

/// Whether the operator wants it to run: what a restart policy goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    Up,
    /// Somebody stopped it.
    Down,
}

/// A container, as it is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: ContainerId,
    pub name: ContainerName,
    pub image: Image,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub policy: Policy,
    pub restart: RestartPolicy,
    /// Who runs it, or ran it last: the name of a lock.
    pub host: Option<String>,
    pub wanted: Wanted,
    pub created: Time,
    pub started: Option<Time>,
    pub finished: Option<Time>,
    /// What a person wants to know of the last end: a trap's reason and stack, or why it did not
    /// start. How it ended is in the status.
    pub detail: Option<String>,
    /// How often it was started again by its policy.
    pub restarts: u32,
    /// How often it has ended.
    #[serde(default)]
    pub ends: u64,
    /// How it ended last, also while it runs again.
    #[serde(default)]
    pub last_end: Option<ExitStatus>,
    /// How it is, where somebody looks after that.
    #[serde(default)]
    pub health: Option<HealthStatus>,
    #[serde(default)]
    pub setup: Setup,
    /// Only `after` changes it.
    status: Status,
    /// How often the record was changed: a change is only saved over the one that it was made of.
    generation: u64,
}

/// What a new container is made of.
#[derive(Debug, Clone)]
pub struct Made {
    pub id: ContainerId,
    pub name: ContainerName,
    pub image: Image,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub policy: Policy,
    pub restart: RestartPolicy,
    pub setup: Setup,
}

impl Record {
    /// The record of a container that was just made.
    pub fn new(made: Made, now: Time) -> Record {
        let Made { id, name, image, args, env, cwd, policy, restart, setup } = made;
        Record {
            id,
            name,
            image,
            args,
            env,
            cwd,
            policy,
            restart,
            host: None,
            wanted: Wanted::Down,
            created: now,
            started: None,
            finished: None,
            detail: None,
            restarts: 0,
            ends: 0,
            last_end: None,
            health: None,
            setup,
            status: Status::Created,
            generation: 0,
        }
    }

    pub fn status(&self) -> Status {
        self.status
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<ExitStatus> {
        match self.status {
            Status::Stopped(how) => Some(how),
            Status::Created | Status::Running | Status::Paused | Status::Removed => None,
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The record after an event. Nothing has happened yet: the caller saves it, and then acts.
    ///
    /// # Errors
    /// Fails if the container does not accept the event now.
    pub fn after(&self, event: Event, now: Time) -> Result<Record, Refused> {
        let mut next = Record { status: self.status.after(event)?, ..self.clone() };
        next.generation += 1;
        match event {
            Event::Start => {
                (next.started, next.finished, next.detail) = (Some(now), None, None);
                next.health = self.setup.health.as_ref().map(|_| HealthStatus::Starting);
            }
            Event::Exit(how) if self.status.is_live() => {
                (next.finished, next.last_end) = (Some(now), Some(how));
                next.ends += 1;
            }
            Event::Exit(_) | Event::Pause | Event::Unpause | Event::Remove => {}
        }
        Ok(next)
    }

    /// More of the same change, before it is saved.
    pub(crate) fn changed_before_save(mut self, change: impl FnOnce(&mut Record)) -> Record {
        let (status, generation) = (self.status, self.generation);
        change(&mut self);
        (self.status, self.generation) = (status, generation);
        self
    }

    /// The record with something other than its status changed.
    pub fn changed(&self, change: impl FnOnce(&mut Record)) -> Record {
        let mut next = self.clone();
        change(&mut next);
        (next.status, next.generation) = (self.status, self.generation + 1);
        next
    }
}
