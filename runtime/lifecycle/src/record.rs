//! What is remembered of a container: all that it was made of, and where it is in its life.

use std::path::PathBuf;

use mote_spec::{ContainerId, ContainerName, Digest, ExitStatus, Policy};
use serde::{Deserialize, Serialize};

use crate::health::HealthStatus;
use crate::restart::{DesiredState, RestartPolicy};
use crate::setup::Setup;
use crate::status::{Event, Refused, Status};
use crate::time::Time;

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
    pub wanted: DesiredState,
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
            wanted: DesiredState::Down,
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
