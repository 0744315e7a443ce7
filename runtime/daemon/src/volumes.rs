//! Named volumes: folders of this machine that outlive the containers that use them.
//!
//! ```text
//! ROOT/volumes/NAME/_data        what containers write
//! ROOT/volumes/NAME/labels.json  what it was labelled with
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mote_lifecycle::{Record, Time};
use mote_spec::ContainerName;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::DaemonError;
use crate::request::random;

/// Docker's mark of a volume that nobody named.
pub(crate) const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The named volumes of a machine.
pub(crate) struct Volumes {
    root: PathBuf,
    folder: PathBuf,
    /// Shared by those who make a container, until it is recorded; whoever removes volumes has it
    /// for itself.
    gate: RwLock<()>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) name: String,
    /// The folder that containers see.
    pub(crate) data: PathBuf,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created: Time,
}

impl Volumes {
    pub(crate) fn below(root: &Path) -> Volumes {
        Volumes { root: root.to_owned(), folder: root.join("volumes"), gate: RwLock::default() }
    }

    /// Held while a container is made: no volume goes meanwhile.
    pub(crate) async fn using(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Held while volumes are removed: no container is made meanwhile. Blocks.
    pub(crate) fn removing(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.blocking_write()
    }

    fn place(&self, name: &str) -> Result<PathBuf, DaemonError> {
        // A volume's name follows the rules of a container's: it is no path.
        let name: ContainerName = name.parse().map_err(|_| {
            DaemonError::BadRequest(format!(
                "`{name}` is not a volume name: it starts with a letter or digit, and goes on with letters, digits, `_`, `.` or `-`"
            ))
        })?;
        Ok(self.folder.join(name.as_str()))
    }

    /// Makes a volume if it is not there.
    pub(crate) fn make(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, DaemonError> {
        use std::os::unix::fs::DirBuilderExt;
        let place = self.place(name)?;
        let failed =
            |error: io::Error| DaemonError::Failed(format!("cannot make volume {name}: {error}"));
        let data = place.join("_data");
        if !data.is_dir() {
            let make = || {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data)?;
                let text = serde_json::to_vec(labels).expect("labels are always JSON");
                std::fs::write(place.join("labels.json"), text)?;
                // A container that is recorded must find its volume after a power cut.
                [&place, &self.folder, &self.root]
                    .into_iter()
                    .try_for_each(|folder| std::fs::File::open(folder)?.sync_all())
            };
            // What is not whole is not there.
            make().map_err(|error| {
                let _ = mote_image::remove_tree(&place);
                failed(error)
            })?;
        }
        self.find(name)
    }

    /// Makes a volume that nobody named.
    pub(crate) fn make_anonymous(&self) -> Result<Volume, DaemonError> {
        let name = mote_spec::ContainerId::new(random()?).to_string();
        self.make(&name, &BTreeMap::from([(ANONYMOUS.to_owned(), String::new())]))
    }

    /// The volumes of a container that nobody named.
    pub(crate) fn anonymous_of(&self, record: &Record) -> Vec<Volume> {
        let is_its =
            |volume: &Volume| record.policy.grants().dirs.iter().any(|dir| dir.host == volume.data);
        let mut all = self.list();
        all.retain(|volume| volume.labels.contains_key(ANONYMOUS) && is_its(volume));
        all
    }

    pub(crate) fn find(&self, name: &str) -> Result<Volume, DaemonError> {
        let place = self.place(name)?;
        let none = || DaemonError::Nothing { what: "volume", name: name.to_owned() };
        // Through links once and for all: a grant names a real path.
        let data = place.join("_data").canonicalize().map_err(|_| none())?;
        let labels = std::fs::read(place.join("labels.json")).unwrap_or_default();
        let created = data.metadata().and_then(|found| found.created());
        let created = created.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Volume {
            name: name.to_owned(),
            data,
            labels: serde_json::from_slice(&labels).unwrap_or_default(),
            created: Time::at_millis(created.map_or(0, |since| since.as_millis() as u64)),
        })
    }

    pub(crate) fn list(&self) -> Vec<Volume> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<Volume> = names.filter_map(|name| self.find(&name).ok()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Removes a volume with all that is in it.
    pub(crate) fn remove(&self, volume: &Volume) -> Result<(), DaemonError> {
        let place = self.place(&volume.name)?;
        mote_image::remove_tree(&place).map_err(|error| {
            DaemonError::Failed(format!("cannot remove volume {}: {error}", volume.name))
        })
    }
}
