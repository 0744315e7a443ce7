//! Leases: what is being made, or opened, is not swept; naming it ends the need for one.

use std::collections::BTreeMap;
use std::fs::File;

use mote_spec::{Digest, ImageRef};

use crate::error::{StoreError, disk_error};
use crate::manifest::Descriptor;
use crate::store::{REF_NAME, RESOLVED, Store, is_named};

/// Held while blobs or trees are made that no reference names yet, or are being opened.
pub struct Lease {
    lock: Option<File>,
    store: Store,
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.lock.take());
        if self.store.sweep_mark().exists() {
            // Whoever asked for it was told that it comes later; the mark is still there then.
            let _ = self.store.sweep();
        }
    }
}

impl Store {
    /// Keeps what is being made from being swept, for as long as the lease is held.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let file = self.lease_file()?;
        file.lock_shared().map_err(disk_error("lock", self.root()))?;
        Ok(Lease { lock: Some(file), store: self.clone() })
    }

    /// Gives an image a name, and takes the name from the image that had it.
    ///
    /// The blobs are durable before the name is, and the lease keeps them until then.
    pub fn name(
        &self,
        lease: &Lease,
        name: &ImageRef,
        manifest: &Descriptor,
        resolved: &Digest,
    ) -> Result<(), StoreError> {
        self.list(lease, Some(name), manifest, resolved)
    }

    /// Lists an image, with a name or without one.
    pub(crate) fn list(
        &self,
        _lease: &Lease,
        name: Option<&ImageRef>,
        manifest: &Descriptor,
        resolved: &Digest,
    ) -> Result<(), StoreError> {
        for algorithm in ["sha256", "sha512"] {
            let blobs = self.root().join("blobs").join(algorithm);
            self.disk().sync_dir(&blobs).map_err(disk_error("sync", &blobs))?;
        }
        let mut entry = manifest.clone();
        let name = name.map(ImageRef::to_string);
        entry.annotations =
            name.iter().map(|name| (REF_NAME.to_owned(), name.clone())).collect::<BTreeMap<_, _>>();
        if *resolved != manifest.digest {
            entry.annotations.insert(RESOLVED.to_owned(), resolved.to_string());
        }
        self.change_index(|index| {
            let replaced = |other: &Descriptor| match &name {
                Some(name) => is_named(other, name),
                None => other.digest == entry.digest && !other.annotations.contains_key(REF_NAME),
            };
            index.manifests.retain(|other| !replaced(other));
            index.manifests.push(entry);
        })
    }
}
