//! The local store: an OCI image layout (image-spec, "Image Layout") that skopeo and umoci can read.
//!
//! ```text
//! ROOT/oci-layout  ROOT/index.json  ROOT/blobs/sha256/HEX   the layout
//! ROOT/ingest/ALGORITHM-HEX  ROOT/ingest/rootfs-…           what is being made; then renamed
//! ROOT/rootfs/HEX  ROOT/rootfs/HEX.tree                     unpacked file systems by chain id, and their digests
//! ROOT/lock                                                 held while references change
//! ROOT/leases  ROOT/sweep                                   see `sweep`
//! ```
//!
//! A blob has its name only when it is whole, verified and synced, and a reference is written only
//! after its blobs; so a crash at any point leaves a store that reads well. Never talks to a network.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mote_spec::{Digest, ImageRef};

use crate::disk::{Disk, RealDisk};
use crate::error::{StoreError, disk_error};
use crate::hash::{hash, sha256};
use crate::manifest::{Descriptor, Index, LARGEST_MANIFEST};
use crate::media;

/// The annotation that names a reference in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The digest that the reference resolved to, where that was an index and not the manifest itself.
pub const RESOLVED: &str = "io.mote.image.resolved";

const FOLDERS: [&str; 4] = ["blobs/sha256", "blobs/sha512", "ingest", "rootfs"];

/// The images of this machine.
#[derive(Clone)]
pub struct Store {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

/// One named image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The full reference; `None` for an image without a name.
    pub name: Option<ImageRef>,
    /// The manifest that runs.
    pub manifest: Descriptor,
    /// What the name resolved to: an index that lists the manifest, or the manifest.
    pub resolved: Digest,
}

impl Store {
    /// Opens the store below `root`, and makes it if it is not there.
    ///
    /// # Errors
    /// Fails if the folder cannot be made or written.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        Store::open_on(root, Arc::new(RealDisk))
    }

    /// Opens the store with another disk; tests use one that fails.
    pub fn open_on(root: &Path, disk: Arc<dyn Disk>) -> Result<Store, StoreError> {
        let store = Store { root: root.to_owned(), disk };
        // A copy of the store may lack the folders that were empty.
        let whole = FOLDERS.iter().all(|folder| root.join(folder).is_dir());
        if !whole || !root.join("oci-layout").exists() {
            store.make()?;
        }
        Ok(store)
    }

    fn make(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        for folder in FOLDERS {
            let path = self.root.join(folder);
            // Private images are nobody else's business.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(disk_error("make", &path))?;
        }
        let _lock = self.lock()?;
        if !self.index_path().exists() {
            self.write_index(&empty_index())?;
        }
        self.replace(&self.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// The folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn disk_handle(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Where a blob of this digest lies, or would.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Where the file system of this chain of layers lies, or would.
    pub(crate) fn rootfs_path(&self, chain: &Digest) -> PathBuf {
        self.root.join("rootfs").join(chain.hex())
    }

    /// The draft of a blob. Each owner has its own, so that a server that stalls holds up nobody who gets the same
    /// blob elsewhere.
    pub(crate) fn ingest_path(&self, digest: &Digest, owner: &str) -> PathBuf {
        let owner = sha256(owner.as_bytes());
        let name = format!("{}-{}-{}", digest.algorithm().name(), digest.hex(), owner.short());
        self.root.join("ingest").join(name)
    }

    /// Reads a manifest or configuration, and verifies it.
    pub fn read_small(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let size = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(digest.clone()));
            }
            Err(error) => return Err(disk_error("read", &path)(error)),
        };
        if size > LARGEST_MANIFEST {
            return Err(StoreError::TooLarge(digest.clone(), size));
        }
        let bytes = fs::read(&path).map_err(disk_error("read", &path))?;
        match hash(digest.algorithm(), &bytes) == *digest {
            true => Ok(bytes),
            false => Err(StoreError::Damaged(digest.clone())),
        }
    }

    /// Every image, in the order in which names were given.
    pub fn images(&self) -> Result<Vec<Stored>, StoreError> {
        Ok(self.read_index()?.manifests.iter().map(stored).collect())
    }

    /// Finds an image by its reference, or by a digest alone.
    pub fn find(&self, image: &ImageRef) -> Result<Option<Stored>, StoreError> {
        let images = self.images()?;
        let wanted = |stored: &Stored| match (image.digest(), &stored.name) {
            (Some(digest), Some(name)) => name.name() == image.name() && stored.is(digest),
            (None, Some(name)) => name == image,
            (_, None) => false,
        };
        Ok(images.into_iter().find(wanted))
    }

    /// Every image that a text names: the one of that name, or those of an id of which at least so
    /// many digits are given.
    pub fn known(&self, text: &str, digits: usize) -> Result<Vec<Stored>, StoreError> {
        if let Ok(image) = text.parse::<ImageRef>()
            && let Some(stored) = self.find(&image)?
        {
            return Ok(vec![stored]);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_id = hex.len() >= digits && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        match is_id {
            true => {
                let images = self.images()?.into_iter();
                Ok(images.filter(|image| image.manifest.digest.hex().starts_with(hex)).collect())
            }
            false => Ok(Vec::new()),
        }
    }

    /// Takes an image out of the list, whether it has a name or not; its blobs go with `sweep`.
    pub fn forget(&self, image: &Stored) -> Result<(), StoreError> {
        self.change_index(|index| index.manifests.retain(|entry| stored(entry) != *image))
    }

    /// Reads, changes and replaces the index under the store's lock.
    pub(crate) fn change_index(&self, change: impl FnOnce(&mut Index)) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        change(&mut index);
        self.write_index(&index)
    }

    /// Waits for the lock that guards references. Dropping the file lets go of it.
    pub(crate) fn lock(&self) -> Result<File, StoreError> {
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(disk_error("open", &path))?;
        file.lock().map_err(disk_error("lock", &path))?;
        Ok(file)
    }

    pub(crate) fn lease_file(&self) -> Result<File, StoreError> {
        let path = self.root().join("leases");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        file.map_err(disk_error("open", &path))
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(crate) fn read_index(&self) -> Result<Index, StoreError> {
        let path = self.index_path();
        let bytes = fs::read(&path).map_err(disk_error("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Index { path, source })
    }

    pub(crate) fn write_index(&self, index: &Index) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec_pretty(index).expect("an index is always JSON");
        self.replace(&self.index_path(), &bytes)
    }

    /// Replaces a small file: temporary file, sync, rename, sync of the folder.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let draft = path.with_extension("new");
        let folder = path.parent().unwrap_or(&self.root);
        let write = || {
            let mut file = self.disk.append(&draft)?;
            file.clear()?;
            file.write_all(bytes)?;
            file.sync()?;
            self.disk.rename(&draft, path)?;
            self.disk.sync_dir(folder)
        };
        write().map_err(disk_error("write", path))
    }
}

impl Stored {
    /// Whether this digest names the image: its manifest's, or its index's.
    pub fn is(&self, digest: &Digest) -> bool {
        self.manifest.digest == *digest || self.resolved == *digest
    }
}

pub(crate) fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: media::OCI_INDEX.to_owned(),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
    }
}

pub(crate) fn is_named(entry: &Descriptor, name: &str) -> bool {
    entry.annotations.get(REF_NAME).is_some_and(|has| has == name)
}

fn stored(entry: &Descriptor) -> Stored {
    let resolved = entry.annotations.get(RESOLVED).and_then(|digest| digest.parse().ok());
    let name = entry.annotations.get(REF_NAME).and_then(|name| name.parse().ok());
    let mut manifest = entry.clone();
    manifest.annotations.clear();
    Stored { name, resolved: resolved.unwrap_or_else(|| manifest.digest.clone()), manifest }
}

/// The names in a folder of the store, as paths.
pub(crate) fn entries_of(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(disk_error("read", folder))?;
    let paths: io::Result<Vec<PathBuf>> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(disk_error("read", folder))
}

/// The files in a folder of the store, and their lengths in bytes.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<(PathBuf, u64)>, StoreError> {
    let sized = |path: PathBuf| {
        let found = fs::symlink_metadata(&path).ok().filter(|found| found.is_file())?;
        Some((path, found.len()))
    };
    Ok(entries_of(folder)?.into_iter().filter_map(sized).collect())
}
