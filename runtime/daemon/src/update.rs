//! Changes of a container's limits: what the host has room for, and what its program can run with.

use std::sync::Arc;

use mote_engine::{Checks, Company, Wanted};
use mote_lifecycle::{Change, Record, RestartPolicy};
use mote_spec::{Bytes, LimitWants, Policy, Rate};

use crate::daemon::Daemon;
use crate::entry::Entry;
use crate::error::DaemonError;

impl Daemon {
    /// Changes a container's limits or restart policy, if the host has room for that.
    pub(crate) async fn update(
        &self,
        entry: &Entry,
        wants: LimitWants,
        restart: Option<RestartPolicy>,
    ) -> Result<(), DaemonError> {
        let _turn = entry.changing.lock().await;
        let record = entry.record();
        if let Some(memory) = wants.memory {
            self.check_starts_with(&record, memory).await?;
        }
        let policy = record.policy.updated(wants, &self.machine.ceiling);
        let policy = policy.map_err(|error| DaemonError::Forbidden(error.to_string()))?;
        let mut requires = record.setup.requires;
        // A reservation that was named beside the limit stays; it is only never above it.
        let named = requires.memory != record.policy.limits().memory.get();
        requires.memory = match wants.memory.map(Bytes::get) {
            Some(memory) if named && requires.memory > 0 => requires.memory.min(memory),
            Some(memory) => memory,
            None => requires.memory,
        };
        requires.cpu = wants.cpus.map_or(requires.cpu, |share| u64::from(share.millis()));
        requires.network = wants.net_rate.map_or(requires.network, Rate::per_second);
        self.pool().reserve(&record.id, record.name.as_str(), requires)?;
        let changed: Result<(), DaemonError> = async {
            self.prepare_for(&record, &policy).await?;
            let change = Change { policy: Some(policy), restart, requires: Some(requires) };
            Ok(entry.container.update(change).await?)
        }
        .await;
        if changed.is_err() {
            // Under the fleet's lock, which whoever forgets a container takes before he gives back.
            let fleet = self.fleet();
            let mut pool = self.pool();
            match fleet.by_id.contains_key(&record.id) {
                true => pool.hold(&record.id, record.name.as_str(), record.setup.requires),
                false => pool.give_back(&record.id),
            }
        }
        changed?;
        let record = entry.record();
        entry.beside().iter().for_each(|one| one.control.apply(record.policy.limits()));
        Ok(())
    }

    /// Sees to it that a container's program is compiled for another policy, whatever becomes of its image.
    async fn prepare_for(&self, record: &Arc<Record>, policy: &Policy) -> Result<(), DaemonError> {
        let checks = |policy| Checks::of(policy, Company::Others);
        if checks(policy) == checks(&record.policy) {
            return Ok(());
        }
        let (shared, policy) = (Arc::clone(&self.shared), policy.clone());
        let other = record.changed(|other| other.policy = policy);
        let loaded = tokio::task::spawn_blocking(move || {
            shared.programs.load(&other, &Wanted::ALWAYS).map(drop)
        })
        .await;
        Ok(loaded.map_err(|_| DaemonError::Failed("compiling failed".to_owned()))??)
    }

    /// Refuses less memory than a program starts with: it could never be started again.
    async fn check_starts_with(
        &self,
        record: &Arc<Record>,
        memory: Bytes,
    ) -> Result<(), DaemonError> {
        let (shared, record) = (Arc::clone(&self.shared), Arc::clone(record));
        let described = tokio::task::spawn_blocking(move || {
            let program = shared.programs.load(&record, &Wanted::ALWAYS)?;
            Ok::<_, DaemonError>(program.described.memory_at_start)
        });
        let least =
            described.await.map_err(|_| DaemonError::Failed("looking failed".to_owned()))??;
        match memory < least {
            true => Err(DaemonError::BadRequest(format!(
                "its program starts with {least} of memory, and could not with {memory}"
            ))),
            false => Ok(()),
        }
    }
}
