//! Keeps a container's record, and tells of every change once it is on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use mote_lifecycle::{HealthStatus, Keep, Record, Records, RecordsError, Status};
use mote_spec::ExitStatus;

use crate::events::{Events, Kind};

/// The records of a daemon, and who is told of their changes.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) records: Arc<Records>,
    pub(crate) events: Arc<Events>,
}

impl Keep for Ledger {
    async fn update(&self, from: &Record, to: &Record) -> Result<(), RecordsError> {
        self.records.update(to).await?;
        for (action, more) in changes(from, to) {
            self.tell(to, &action, more);
        }
        Ok(())
    }

    async fn delete(&self, _from: &Record, to: &Record) -> Result<(), RecordsError> {
        self.records.delete(to).await?;
        self.tell(to, "destroy", Vec::new());
        Ok(())
    }
}

impl Ledger {
    /// Adds a container.
    pub(crate) async fn insert(&self, record: &Record) -> Result<(), RecordsError> {
        self.records.insert(record).await?;
        self.tell(record, "create", Vec::new());
        Ok(())
    }

    /// Tells of something that happened to a container.
    pub(crate) fn tell(&self, record: &Record, action: &str, more: Vec<(&str, String)>) {
        let mut attributes: BTreeMap<String, String> = record.setup.labels.clone();
        attributes.insert("name".to_owned(), record.name.to_string());
        attributes.insert("image".to_owned(), record.image.name.clone());
        attributes.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self.events.tell(Kind::Container, action, record.id.as_str(), attributes);
    }
}

/// What happened between two states of a record, in docker's words.
fn changes(from: &Record, to: &Record) -> Vec<(String, Vec<(&'static str, String)>)> {
    let mut all = Vec::new();
    let mut tell = |action: &str, more| all.push((action.to_owned(), more));
    match (from.status(), to.status()) {
        (Status::Paused, Status::Running) => tell("unpause", Vec::new()),
        (Status::Created | Status::Stopped(_), Status::Running) => tell("start", Vec::new()),
        (Status::Running, Status::Paused) => tell("pause", Vec::new()),
        (Status::Running | Status::Paused, Status::Stopped(how)) => {
            if how == ExitStatus::OutOfMemory {
                tell("oom", Vec::new());
            }
            let reason = match &to.detail {
                Some(detail) => format!("{how}: {detail}"),
                None => how.to_string(),
            };
            tell("die", vec![("exitCode", how.code().to_string()), ("reason", reason)]);
        }
        (_, _) => {}
    }
    if from.name != to.name {
        tell("rename", vec![("oldName", from.name.to_string())]);
    }
    if from.policy != to.policy || from.restart != to.restart {
        tell("update", Vec::new());
    }
    match to.health {
        // A start tells of itself.
        None | Some(HealthStatus::Starting) => {}
        Some(health) if from.health != to.health => {
            tell(&format!("health_status: {health}"), Vec::new());
        }
        Some(_) => {}
    }
    all
}
