//! What is done to images: which containers hold them, and what goes with them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mote_engine::{Checks, Company, Wanted};
use mote_image::{Store, Stored};
use mote_lifecycle::Record;
use mote_spec::{Digest, ImageRef};

use crate::daemon::{Daemon, Force, look_at};
use crate::error::DaemonError;
use crate::events::Kind;
use crate::machine::Machine;
use crate::report::causes;

/// What was done to an image that is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    Untagged(String),
    Deleted(String),
}

impl Daemon {
    /// Tells of something that happened to an image.
    pub(crate) fn tell_image(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.ledger.events.tell(Kind::Image, action, name, attributes);
    }

    /// Compiles an image's program, so that no start has to. Blocks.
    pub(crate) fn compile_ahead(
        &self,
        stored: &Stored,
        client: &Wanted,
    ) -> Result<(), DaemonError> {
        let store = self.machine.store()?;
        let artifact = look_at(&store, stored)?;
        self.shared.programs.compiled(&artifact, Checks::usual(Company::Others), client)?;
        Ok(())
    }

    fn images(&self) -> Result<Images<'_>, DaemonError> {
        let containers = self.list().iter().map(|entry| entry.record()).collect();
        Images::new(&self.machine, containers)
    }

    /// Removes names of an image; with the last of them the image itself. Blocks.
    pub(crate) fn remove_image(
        &self,
        text: &str,
        force: Force,
    ) -> Result<Vec<Removed>, DaemonError> {
        let removed = self.images()?.remove(text, force)?;
        self.shared.programs.forget_idle();
        for one in &removed {
            match one {
                Removed::Untagged(name) => self.tell_image("untag", name),
                Removed::Deleted(id) => self.tell_image("delete", id),
            }
        }
        Ok(removed)
    }

    /// Removes every image without a name, or with `unused` every one that no container is made of.
    /// Blocks.
    pub(crate) fn prune_images(&self, unused: Unused) -> Result<(Vec<Removed>, u64), DaemonError> {
        self.check_prune()?;
        self.shared.programs.forget_idle();
        self.images()?.prune(unused)
    }
}

/// The images of a machine, and the containers that are made of them.
pub struct Images<'a> {
    machine: &'a Machine,
    store: Store,
    containers: Vec<Arc<Record>>,
}

impl<'a> Images<'a> {
    /// # Errors
    /// Fails if the store cannot be used.
    pub fn new(
        machine: &'a Machine,
        containers: Vec<Arc<Record>>,
    ) -> Result<Images<'a>, DaemonError> {
        Ok(Images { store: machine.store()?, machine, containers })
    }

    /// Removes names of an image; with the last of them the image itself, if no container is made of it.
    ///
    /// # Errors
    /// Fails if there is no such image, or if a container is made of it: one that runs keeps it also
    /// from force.
    pub fn remove(&self, text: &str, force: Force) -> Result<Vec<Removed>, DaemonError> {
        let doomed = self.named(text, force)?;
        let mut removed = Vec::new();
        for image in &doomed {
            self.check_unused(image, force)?;
            self.store.forget(image)?;
            removed.extend(image.name.as_ref().map(|name| Removed::Untagged(name.familiar())));
        }
        for digest in doomed.iter().map(|image| &image.manifest.digest).collect::<HashSet<_>>() {
            let named = self.store.images()?.iter().any(|other| other.manifest.digest == *digest);
            if !named {
                removed.push(Removed::Deleted(digest.to_string()));
            }
        }
        self.sweep()?;
        Ok(removed)
    }

    /// The images that a text names. An id stands for all names of its image, which takes force.
    fn named(&self, text: &str, force: Force) -> Result<Vec<Stored>, DaemonError> {
        let images = self.store.known(text, 4)?;
        match images.as_slice() {
            [] => Err(DaemonError::NoImage(text.to_owned())),
            [_] => Ok(images),
            [first, rest @ ..] if rest.iter().all(|other| other.manifest == first.manifest) => {
                let names = images.iter().filter_map(|image| image.name.as_ref());
                let names: Vec<String> = names.map(ImageRef::familiar).collect();
                match force {
                    Force::Yes => Ok(images),
                    // Docker's words, and what to do.
                    Force::No => Err(DaemonError::Conflict(format!(
                        "conflict: unable to delete {text} (must be forced) - image is referenced in multiple repositories: {}; remove one by its name, or all with --force",
                        names.join(", ")
                    ))),
                }
            }
            _ => Err(DaemonError::BadRequest(format!(
                "{text} could be several images; write more of its id"
            ))),
        }
    }

    /// An image's last name stays while a container is made of it.
    fn check_unused(&self, image: &Stored, force: Force) -> Result<(), DaemonError> {
        let digest = &image.manifest.digest;
        let others = self.store.images()?;
        let last = others.iter().filter(|other| other.manifest.digest == *digest).count() <= 1;
        if !last {
            return Ok(());
        }
        for record in &self.containers {
            if record.image.manifest.as_ref() != Some(digest) {
                continue;
            }
            let (live, id) = (record.status().is_live(), record.id.short());
            let using = if live { "running" } else { "stopped" };
            if live || force == Force::No {
                let forced = if live { "cannot be forced" } else { "must be forced" };
                return Err(DaemonError::Conflict(format!(
                    "conflict: unable to delete {} ({forced}) - container {id} ({}) is {using} and uses it",
                    digest.short(),
                    record.name
                )));
            }
        }
        Ok(())
    }

    /// Removes what no image and no container needs. Returns how many bytes that were.
    fn sweep(&self) -> Result<u64, DaemonError> {
        let mut freed = self.store.sweep()?.bytes;
        if let Some(programs) = self.store.programs()? {
            let used = self.containers.iter().map(|record| record.image.digest.hex());
            let kept: HashSet<&str> = programs.iter().map(Digest::hex).chain(used).collect();
            let cache = self.machine.cache();
            let retained = cache.and_then(|cache| cache.retain(|program| kept.contains(program)));
            freed += retained.map_err(|error| DaemonError::Failed(causes(&error)))?;
        }
        Ok(freed)
    }

    /// Removes images, and returns how many bytes went with them.
    fn prune(&self, unused: Unused) -> Result<(Vec<Removed>, u64), DaemonError> {
        let made = self.containers.iter().filter_map(|record| record.image.manifest.as_ref());
        let used: HashSet<&Digest> = made.collect();
        let mut removed = Vec::new();
        for image in self.store.images()? {
            let doomed = match unused {
                Unused::Nameless => image.name.is_none(),
                Unused::All => true,
            };
            if !doomed || used.contains(&image.manifest.digest) {
                continue;
            }
            self.store.forget(&image)?;
            removed.extend(image.name.as_ref().map(|name| Removed::Untagged(name.familiar())));
            removed.push(Removed::Deleted(image.manifest.digest.to_string()));
        }
        Ok((removed, self.sweep()?))
    }
}

/// Which images go with a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unused {
    /// Those without a name.
    Nameless,
    All,
}
