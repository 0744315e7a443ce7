//! What is done to images: which containers hold them, and what goes with them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mote_engine::Counting;
use mote_image::{Store, Stored};
use mote_spec::{Digest, ImageRef};

use crate::daemon::{Daemon, DaemonError, Force, look_at};
use crate::events::Kind;

/// What was done to an image that is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
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
    pub(crate) fn compile_ahead(&self, stored: &Stored) -> Result<(), DaemonError> {
        let store = self.machine.store()?;
        let artifact = look_at(&store, stored)?;
        self.shared.programs.compiled(&artifact, Counting::Off)?;
        Ok(())
    }

    /// Removes names of an image; with the last of them the image itself. Blocks.
    pub(crate) fn remove_image(
        &self,
        text: &str,
        force: Force,
    ) -> Result<Vec<Removed>, DaemonError> {
        let store = self.machine.store()?;
        let doomed = self.named(&store, text, force)?;
        let mut removed = Vec::new();
        for image in &doomed {
            self.check_unused(&store, image, force)?;
            store.forget(image)?;
            let name = image.name.as_ref().map(ImageRef::familiar);
            let id = image.manifest.digest.to_string();
            self.tell_image("untag", name.as_deref().unwrap_or(&id));
            removed.extend(name.map(Removed::Untagged));
        }
        for digest in doomed.iter().map(|image| &image.manifest.digest).collect::<HashSet<_>>() {
            let named = store.images()?.iter().any(|other| other.manifest.digest == *digest);
            if !named {
                self.tell_image("delete", &digest.to_string());
                removed.push(Removed::Deleted(digest.to_string()));
            }
        }
        self.sweep(&store)?;
        Ok(removed)
    }

    /// The images that a text names. An id stands for all names of its image, which takes force.
    fn named(&self, store: &Store, text: &str, force: Force) -> Result<Vec<Stored>, DaemonError> {
        let images = store.known(text, 4)?;
        match images.as_slice() {
            [] => Err(DaemonError::NoImage(text.to_owned())),
            [_] => Ok(images),
            [first, rest @ ..] if rest.iter().all(|other| other.manifest == first.manifest) => {
                match force {
                    Force::Yes => Ok(images),
                    Force::No => Err(DaemonError::Conflict(format!(
                        "conflict: unable to delete {text} (must be forced) - image is referenced in multiple repositories"
                    ))),
                }
            }
            _ => Err(DaemonError::BadRequest(format!(
                "{text} could be several images; write more of its id"
            ))),
        }
    }

    /// An image's last name stays while a container is made of it; what runs keeps it also from force.
    fn check_unused(&self, store: &Store, image: &Stored, force: Force) -> Result<(), DaemonError> {
        let digest = &image.manifest.digest;
        let others = store.images()?;
        let last = others.iter().filter(|other| other.manifest.digest == *digest).count() <= 1;
        if !last {
            return Ok(());
        }
        for entry in self.list() {
            let record = entry.record();
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

    /// Removes what no image and no container needs. Returns how many bytes that were. Blocks.
    pub(crate) fn sweep(&self, store: &Store) -> Result<u64, DaemonError> {
        self.shared.programs.forget_idle();
        let swept = store.sweep()?;
        let mut freed = swept.bytes;
        if let Some(programs) = store.programs()? {
            let used: Vec<_> = self.list().iter().map(|entry| entry.record()).collect();
            let used = used.iter().map(|record| record.image.digest.hex());
            let kept: HashSet<&str> = programs.iter().map(Digest::hex).chain(used).collect();
            let cache = self.machine.cache();
            let retained = cache.and_then(|cache| cache.retain(|program| kept.contains(program)));
            freed +=
                retained.map_err(|error| DaemonError::Failed(crate::report::causes(&error)))?;
        }
        Ok(freed)
    }

    /// Removes every image without a name, or with `unused` every one that no container is made of.
    /// Blocks.
    pub(crate) fn prune_images(
        self: &Arc<Daemon>,
        unused: Unused,
    ) -> Result<(Vec<Removed>, u64), DaemonError> {
        let store = self.machine.store()?;
        let used: HashSet<Digest> =
            self.list().iter().filter_map(|entry| entry.record().image.manifest.clone()).collect();
        let mut removed = Vec::new();
        for image in store.images()? {
            let doomed = match unused {
                Unused::Nameless => image.name.is_none(),
                Unused::All => true,
            };
            if !doomed || used.contains(&image.manifest.digest) {
                continue;
            }
            store.forget(&image)?;
            removed.extend(image.name.as_ref().map(|name| Removed::Untagged(name.familiar())));
            removed.push(Removed::Deleted(image.manifest.digest.to_string()));
        }
        let freed = self.sweep(&store)?;
        Ok((removed, freed))
    }
}

/// Which images go with a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unused {
    /// Those without a name.
    Nameless,
    All,
}
