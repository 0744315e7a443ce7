//! The containers of one machine, each driven by a task of its own: making, finding, recovering and
//! letting go of them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use mote_engine::{Checks, Company};
use mote_image::{Artifact, Store, Stored};
use mote_lifecycle::{
    DriveError, Ended, Grace, Host, Pool, Record, Records, RecordsError, Recovery, Removal,
    Resources, Status, Time, recover,
};
use mote_registry::Settings;
use mote_spec::{ContainerId, ContainerName, ExitStatus};
use tokio::sync::mpsc;

use crate::console::{self, Console};
use crate::entry::Entry;
use crate::error::DaemonError;
use crate::events::{Events, Kind};
use crate::execs::Execs;
use crate::guest::Shared;
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::programs::Programs;
use crate::report::causes;
use crate::request::{self, Wanted};
use crate::scratch;
use crate::volumes::{Volume, Volumes};

/// What a daemon goes by.
pub struct Config {
    pub machine: Machine,
    /// How registries are reached.
    pub registries: Settings,
    /// What containers may require together.
    pub resources: Resources,
    /// How long output may wait in memory before it is written.
    pub flush_every: Duration,
}

/// The containers of a machine.
pub struct Daemon {
    pub(crate) machine: Machine,
    pub(crate) registries: Settings,
    pub(crate) ledger: Ledger,
    pub(crate) shared: Arc<Shared>,
    pub(crate) execs: Execs,
    pub(crate) volumes: Volumes,
    pub(crate) started: Time,
    pub(crate) total: Resources,
    pool: Mutex<Pool>,
    fleet: RwLock<Fleet>,
    damaged: Mutex<Damaged>,
    flusher: mpsc::UnboundedSender<Weak<Console>>,
    /// Held for as long as this process runs the machine's containers.
    _lock: File,
}

/// Records that cannot be read: their ids, and why.
pub(crate) type Damaged = BTreeMap<String, String>;

#[derive(Default)]
pub(crate) struct Fleet {
    pub(crate) by_id: BTreeMap<ContainerId, Arc<Entry>>,
    pub(crate) by_name: HashMap<ContainerName, ContainerId>,
}

impl Daemon {
    /// Takes over the containers of a machine: recovers what an earlier process left, and starts what
    /// is to run. Guests run on the current runtime's `guests`; the rest on the current runtime.
    ///
    /// # Errors
    /// Fails if another daemon has them, or if the records cannot be read.
    pub async fn start(
        config: Config,
        guests: tokio::runtime::Handle,
    ) -> Result<Arc<Daemon>, DaemonError> {
        let Config { machine, registries, resources, flush_every } = config;
        let lock = take_over(&machine)?;
        let records = Arc::new(Records::open(&machine.root)?);
        let shared = Arc::new(Shared {
            programs: Programs::new(machine.clone()),
            guests,
            root: machine.root.clone(),
        });
        let (flusher, dirty) = mpsc::unbounded_channel();
        tokio::spawn(console::flush_forever(dirty, flush_every));
        let daemon = Arc::new(Daemon {
            ledger: Ledger { records, events: Arc::new(Events::new()) },
            volumes: Volumes::below(&machine.root),
            machine,
            registries,
            shared,
            execs: Execs::default(),
            started: Time::now(),
            total: resources,
            pool: Mutex::new(Pool::new(resources)),
            fleet: RwLock::default(),
            damaged: Mutex::default(),
            flusher,
            _lock: lock,
        });
        daemon.recover().await?;
        Ok(daemon)
    }

    /// Brings every record that an earlier process left up to date, and starts what is to run.
    async fn recover(self: &Arc<Daemon>) -> Result<(), DaemonError> {
        // A log that cannot be written keeps no container down.
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.logs());
        // What guests wrote for themselves went with the process that they ran in.
        scratch::clean(&self.machine.root).map_err(|error| DaemonError::Failed(causes(&error)))?;
        let (records, damaged) = self.ledger.records.list()?;
        for (id, why) in &damaged {
            tracing::error!(container = id, why, "its record cannot be read");
        }
        // What belongs to a record that cannot be read is kept for whoever mends it.
        if damaged.is_empty() {
            self.remove_lost_logs(&records);
        }
        *self.damaged() = damaged;
        let mut starting = Vec::new();
        for record in records {
            let recovery = recover(&record, Host::Gone);
            let (id, name) = (record.id.clone(), record.name.clone());
            // It was granted before; a machine that shrank must not lose containers.
            self.pool().hold(&id, name.as_str(), record.setup.requires);
            // One log that cannot be written must not keep all containers down.
            let console = self.console(&record).unwrap_or_else(|error| {
                tracing::warn!(container = %name, %error, "its output is not kept");
                Console::silent(self.log_path(&record), self.flusher.clone())
            });
            let entry = self.drive(record, console);
            if let Recovery::Lost(_) | Recovery::LostThenStart(_) = recovery {
                let lost = Ended { status: ExitStatus::Lost, detail: None };
                // The driver saves it again and again until it can.
                if let Err(error) = entry.container.fail(lost).await {
                    tracing::warn!(container = %name, %error, "its loss is not recorded yet");
                }
            }
            match recovery {
                Recovery::Start | Recovery::LostThenStart(_) => starting.push(entry),
                Recovery::Leave | Recovery::Keep | Recovery::Lost(_) => {}
            }
        }
        for entry in starting {
            tokio::spawn(async move {
                if let Err(error) = entry.container.start_again().await {
                    tracing::warn!(container = %entry.record().name, %error, "it is not started");
                }
            });
        }
        Ok(())
    }

    /// Removes the logs of containers that are no more: a crash may have come in between.
    fn remove_lost_logs(&self, records: &[Record]) {
        let known: std::collections::HashSet<&str> =
            records.iter().map(|record| record.id.as_str()).collect();
        for entry in std::fs::read_dir(self.logs()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.split_once(".log")).map(|(id, _)| id);
            if id.is_some_and(|id| !known.contains(id)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn logs(&self) -> PathBuf {
        self.machine.root.join("logs")
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_path(&self, record: &Record) -> PathBuf {
        self.logs().join(format!("{}.log", record.id))
    }

    fn console(&self, record: &Record) -> Result<Arc<Console>, DaemonError> {
        Console::open(record, self.log_path(record), self.flusher.clone())
            .map_err(|error| DaemonError::Failed(format!("cannot keep its log: {error}")))
    }

    /// Removes the volumes of a container that is gone which nobody named, and nobody else has. What
    /// cannot be removed is, by a prune. Blocks.
    pub(crate) fn remove_anonymous_of(&self, record: &Record) {
        let _removing = self.volumes.removing();
        for volume in self.volumes.anonymous_of(record) {
            if self.users_of(&volume).is_empty() {
                let _ = self.volumes.remove(&volume);
            }
        }
    }

    /// The names of the containers that are made with a volume.
    pub(crate) fn users_of(&self, volume: &Volume) -> Vec<String> {
        let records = self.list().into_iter().map(|entry| entry.record());
        let using = records
            .filter(|record| record.policy.grants().dirs.iter().any(|dir| dir.host == volume.data));
        using.map(|record| record.name.to_string()).collect()
    }

    /// Makes a container, unless its client goes while its program is compiled.
    pub(crate) async fn create(
        self: &Arc<Daemon>,
        wanted: Wanted,
        client: mote_engine::Wanted,
    ) -> Result<Arc<Entry>, DaemonError> {
        let daemon = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || daemon.make(wanted, &client)).await;
        let record = made.map_err(|_| DaemonError::Failed("making it failed".to_owned()))??;
        let (id, name) = (record.id.clone(), record.name.clone());
        // Before it is recorded: what is on record must be drivable.
        let console = self.console(&record)?;
        self.pool().reserve(&id, name.as_str(), record.setup.requires)?;
        match self.ledger.insert(&record).await {
            Ok(()) => Ok(self.drive(record, console)),
            Err(error) => {
                self.pool().give_back(&id);
                Err(name_taken(error, &name))
            }
        }
    }

    /// Tells of a container that is not made since it asked for too much.
    pub(crate) fn tell_refusal(&self, name: &str, image: &str, error: &DaemonError) {
        if let DaemonError::Forbidden(why) | DaemonError::Conflict(why) = error {
            let pairs = [("name", name), ("image", image), ("reason", why)];
            let attributes = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
            self.ledger.events.tell(Kind::Container, "refuse", name, attributes.into());
        }
    }

    /// Opens the image, decides, and compiles. Blocks.
    fn make(&self, wanted: Wanted, client: &mote_engine::Wanted) -> Result<Record, DaemonError> {
        if let Some(name) = &wanted.name
            && self.fleet().by_name.contains_key(name)
        {
            return Err(name_taken(RecordsError::NameTaken(name.clone()), name));
        }
        let store = self.machine.store()?;
        let lease = store.lease()?;
        let stored = find_image(&store, &wanted.image)?;
        let artifact = mote_image::open(&store, &lease, &stored, wanted.overrides.clone())?;
        let record =
            request::record(wanted, &artifact, stored.manifest.digest.clone(), &self.machine)?;
        let checks = Checks::of(&record.policy, Company::Others);
        self.shared.programs.compiled(&artifact, checks, client)?;
        Ok(record)
    }

    pub(crate) fn fleet_mut(&self) -> std::sync::RwLockWriteGuard<'_, Fleet> {
        self.fleet.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fleet(&self) -> std::sync::RwLockReadGuard<'_, Fleet> {
        self.fleet.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a container by its name, its id, or the start of its id.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Entry>, DaemonError> {
        let fleet = self.fleet();
        // Docker's own clients put a slash in front of a name.
        let text = text.strip_prefix('/').unwrap_or(text);
        let named = text.parse::<ContainerName>().ok();
        let named = named.and_then(|name| fleet.by_name.get(&name));
        if let Some(entry) = named.and_then(|id| fleet.by_id.get(id)) {
            return Ok(Arc::clone(entry));
        }
        let is_prefix = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let none = || DaemonError::NoContainer(text.to_owned());
        if !is_prefix {
            return Err(none());
        }
        let lower = text.to_ascii_lowercase();
        self.check_readable(&lower)?;
        let mut found = fleet.by_id.iter().filter(|(id, _)| id.as_str().starts_with(&lower));
        match (found.next(), found.next()) {
            (Some((_, entry)), None) => Ok(Arc::clone(entry)),
            (None, _) => Err(none()),
            (Some(_), Some(_)) => Err(DaemonError::BadRequest(format!(
                "{text} could be several containers; write more of its id"
            ))),
        }
    }

    /// Why records cannot be read, by their ids.
    pub(crate) fn damaged(&self) -> MutexGuard<'_, Damaged> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_readable(&self, start_of_id: &str) -> Result<(), DaemonError> {
        match self.damaged().iter().find(|(id, _)| id.starts_with(start_of_id)) {
            Some((id, why)) => Err(DaemonError::Failed(format!(
                "the record of container {id} cannot be read ({why}); `rm --force` removes it"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses what would take something away from containers whose records cannot be read.
    pub(crate) fn check_prune(&self) -> Result<(), DaemonError> {
        match self.damaged().keys().next() {
            Some(id) => Err(DaemonError::Conflict(format!(
                "the record of container {id} cannot be read, so that what it needs is not known; remove it with `rm --force {id}` first"
            ))),
            None => Ok(()),
        }
    }

    /// Removes a container whose record cannot be read, with its log. False if there is none of that id.
    pub(crate) async fn discard(&self, id: &str) -> Result<bool, DaemonError> {
        if !self.damaged().contains_key(id) {
            return Ok(false);
        }
        self.ledger.records.discard(id).await?;
        self.damaged().remove(id);
        mote_lifecycle::remove_log(&self.logs().join(format!("{id}.log")));
        Ok(true)
    }

    /// Every container, the newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<(Time, Arc<Entry>)> = self
            .fleet()
            .by_id
            .values()
            .map(|entry| (entry.record().created, Arc::clone(entry)))
            .collect();
        all.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
        all.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Gives a container another name.
    pub(crate) async fn rename(
        &self,
        entry: &Entry,
        name: ContainerName,
    ) -> Result<(), DaemonError> {
        let before = entry.record().name.clone();
        if before == name {
            return Ok(());
        }
        match entry.container.rename(name.clone()).await {
            Ok(()) => {}
            Err(DriveError::Records(error)) => return Err(name_taken(error, &name)),
            Err(error) => return Err(error.into()),
        }
        let mut fleet = self.fleet_mut();
        // Others may have renamed it as well: what is on record counts.
        let (id, name) = (entry.record().id.clone(), entry.record().name.clone());
        fleet.by_name.retain(|_, other| *other != id);
        if fleet.by_id.contains_key(&id) {
            fleet.by_name.insert(name, id);
        }
        Ok(())
    }

    /// Stops a container: at once, or after it was told and had its time.
    pub(crate) async fn stop(
        &self,
        entry: &Entry,
        timeout: Option<Duration>,
    ) -> Result<(), DaemonError> {
        self.let_drain(entry, timeout).await?;
        if entry.record().status().is_live() {
            entry.container.stop().await?;
        }
        entry.guest.gone().await;
        self.ledger.tell(&entry.record(), "stop", Vec::new());
        Ok(())
    }

    /// Stops a container if it runs, and starts it.
    pub(crate) async fn restart(
        &self,
        entry: &Entry,
        timeout: Option<Duration>,
    ) -> Result<(), DaemonError> {
        if entry.record().setup.removal == Removal::ByHand {
            self.let_drain(entry, timeout).await?;
        }
        entry.container.restart().await?;
        self.ledger.tell(&entry.record(), "restart", Vec::new());
        Ok(())
    }

    /// Tells a guest that listens for it that it is to end, and gives it time to.
    async fn let_drain(&self, entry: &Entry, timeout: Option<Duration>) -> Result<(), DaemonError> {
        let record = entry.record();
        if record.setup.stop.grace != Grace::Stdin || record.status() != Status::Running {
            return Ok(());
        }
        let own = Duration::from_secs(u64::from(record.setup.stop.timeout));
        entry.container.let_end().await?;
        let ends = async {
            entry.console.close_input().await;
            // Whether it ended or not, the caller sees in the record.
            let _ = entry.container.wait(|record| !record.status().is_live()).await;
        };
        let _ = tokio::time::timeout(timeout.unwrap_or(own), ends).await;
        Ok(())
    }

    /// Removes a container; one that runs only by `force`.
    pub(crate) async fn remove(
        self: &Arc<Daemon>,
        entry: &Entry,
        force: Force,
    ) -> Result<(), DaemonError> {
        let record = entry.record();
        let removed = loop {
            if force == Force::Yes && entry.record().status().is_live() {
                match entry.container.kill().await {
                    Ok(()) | Err(DriveError::Gone) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match entry.container.remove().await {
                // Its policy has just started it.
                Err(DriveError::Refused(_))
                    if force == Force::Yes && entry.record().status().is_live() => {}
                removed => break removed,
            }
        };
        entry.guest.gone().await;
        match removed {
            Ok(()) => {}
            // Its driver removed it, as it was told to at its end.
            Err(DriveError::Gone) if entry.record().status() == Status::Removed => {}
            Err(error) => return Err(error.into()),
        }
        self.forget(&record.id);
        Ok(())
    }

    /// Ends every guest, and notes that its host ended it: what is to run does so with the next.
    pub async fn end(&self) {
        let ends = self.list().into_iter().map(|entry| async move {
            if let Err(error) = entry.container.end_with_host().await {
                tracing::warn!(container = %entry.record().name, %error, "its end is not recorded");
            }
            entry.guest.gone().await;
            entry.console.flush();
        });
        futures_util::future::join_all(ends).await;
    }

    /// How many containers there are, and how many of them run and are paused.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.fleet().by_id.values() {
            counts.all += 1;
            match entry.record().status() {
                Status::Running => counts.running += 1,
                Status::Paused => counts.paused += 1,
                Status::Created | Status::Stopped(_) | Status::Removed => {}
            }
        }
        counts
    }

    /// How much of a resource is left.
    pub(crate) fn free(&self, resource: mote_lifecycle::Resource) -> u64 {
        self.pool().free(resource)
    }
}

/// How many containers there are.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) all: usize,
    pub(crate) running: usize,
    pub(crate) paused: usize,
}

/// Whether something is done to a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    No,
    Yes,
}

fn name_taken(error: RecordsError, name: &ContainerName) -> DaemonError {
    match error {
        RecordsError::NameTaken(_) => DaemonError::Conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use; remove or rename that container, or choose another name"
        )),
        error => error.into(),
    }
}

/// Takes the lock of the daemon of this machine.
fn take_over(machine: &Machine) -> Result<File, DaemonError> {
    let path = machine.root.join("daemon.lock");
    let failed = |error| DaemonError::Failed(format!("cannot use {}: {error}", path.display()));
    let folder = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&machine.root);
    folder.map_err(failed)?;
    let options = || File::options().create(true).truncate(false).write(true).open(&path);
    let mut lock = options().map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            // For whoever wants to stop it, or looks for it elsewhere.
            let (pid, state) = (std::process::id(), machine.state.display());
            let named = lock.set_len(0).and_then(|()| writeln!(lock, "{pid}\n{state}"));
            named.map_err(failed)?;
            Ok(lock)
        }
        Err(_) => Err(DaemonError::Conflict(format!(
            "another daemon runs the containers in {}",
            machine.root.display()
        ))),
    }
}

/// Finds an image of the store by its name or its id.
pub(crate) fn find_image(store: &Store, text: &str) -> Result<Stored, DaemonError> {
    let known = store.known(text, 4)?;
    match known.as_slice() {
        [] => Err(DaemonError::NoImage(text.to_owned())),
        [first, rest @ ..] if rest.iter().all(|other| other.manifest == first.manifest) => {
            Ok(first.clone())
        }
        _ => Err(DaemonError::BadRequest(format!(
            "{text} could be several images; write more of its id"
        ))),
    }
}

/// The artifact of an image, for whoever only looks.
pub(crate) fn look_at(store: &Store, stored: &Stored) -> Result<Artifact, DaemonError> {
    let lease = store.lease()?;
    Ok(mote_image::open(store, &lease, stored, Default::default())?)
}
