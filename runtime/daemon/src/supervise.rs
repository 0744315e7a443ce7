//! Tasks that accompany a container of the daemon until it is removed: its driver, and the probe of its health.

use std::sync::Arc;

use mote_lifecycle::{Container, Record, Removal, Status};
use mote_spec::ContainerId;

use crate::console::Console;
use crate::daemon::Daemon;
use crate::entry::Entry;
use crate::guest::Guest;
use crate::probe;

impl Daemon {
    /// Drives a container from its record, until it is removed.
    pub(crate) fn drive(self: &Arc<Daemon>, record: Record, console: Arc<Console>) -> Arc<Entry> {
        let guest = Arc::new(Guest::new(Arc::clone(&self.shared), Arc::clone(&console)));
        let (id, name, probed) =
            (record.id.clone(), record.name.clone(), record.setup.health.is_some());
        let keep = Arc::new(self.ledger.clone());
        let (container, driver) = Container::drive(record, keep, Arc::clone(&guest));
        let entry = Arc::new(Entry::new(container, console, guest));
        {
            let mut fleet = self.fleet_mut();
            fleet.by_id.insert(id.clone(), Arc::clone(&entry));
            fleet.by_name.insert(name, id.clone());
        }
        if probed {
            tokio::spawn(probe::look_after(Arc::downgrade(self), Arc::downgrade(&entry)));
        }
        let daemon = Arc::downgrade(self);
        tokio::spawn(async move {
            driver.await;
            if let Some(daemon) = daemon.upgrade() {
                daemon.forget(&id);
            }
        });
        entry
    }

    /// Lets go of a container that was removed.
    pub(crate) fn forget(self: &Arc<Daemon>, id: &ContainerId) {
        let mut fleet = self.fleet_mut();
        let Some(entry) = fleet.by_id.get(id) else { return };
        // A driver that ended for another reason leaves its container on record.
        if entry.record().status() != Status::Removed {
            return;
        }
        let entry = fleet.by_id.remove(id).expect("it was just there");
        fleet.by_name.retain(|_, other| other != id);
        drop(fleet);
        self.pool().give_back(id);
        entry.console.remove();
        let record = entry.record();
        if record.setup.removal == Removal::AtEnd {
            let daemon = Arc::clone(self);
            tokio::task::spawn_blocking(move || daemon.remove_anonymous_of(&record));
        }
    }
}
