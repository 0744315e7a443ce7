//! Removes what no image needs.
//!
//! Mark and sweep over a few dozen blobs; nothing is counted, so nothing can be miscounted. A lease
//! keeps what is being made, or opened, from being swept; a sweep that is asked for while somebody
//! holds one is left to the end of the last.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mote_spec::Digest;

use crate::deep_tree::bytes_below;
use crate::documents;
use crate::error::{StoreError, disk_error};
use crate::layout::{self, Payload};
use crate::rootfs::{self, Removed, chain_id};
use crate::store::{Store, entries_of, files_of};

/// An interrupted download is kept for so long to go on from.
const RESUMABLE_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What a sweep took away.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    pub files: u64,
    pub bytes: u64,
}

impl Store {
    pub(crate) fn sweep_mark(&self) -> PathBuf {
        self.root().join("sweep")
    }

    /// Removes blobs and trees that no image needs, and what was left half made.
    ///
    /// While another process holds a lease, leaves a mark for the end of the lease instead.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        let (alone, mark) = (self.lease_file()?, self.sweep_mark());
        if alone.try_lock().is_err() {
            File::create(&mark).map_err(disk_error("make", &mark))?;
            // The last lease may have ended before the mark was there.
            if alone.try_lock().is_err() {
                return Ok(Swept::default());
            }
        }
        rootfs::remove_abandoned(self)?;
        self.sweep_downloads()?;
        let needed = match self.needed()? {
            Some(needed) => needed,
            // An image that cannot be read may need anything: nothing goes until a check has mended it.
            None => return Ok(Swept::default()),
        };
        let mut swept = Swept::default();
        for folder in ["blobs/sha256", "blobs/sha512"] {
            for (path, bytes) in files_of(&self.root().join(folder))? {
                if !needed.contains(&path) {
                    self.disk().remove(&path).map_err(disk_error("remove", &path))?;
                    swept.files += 1;
                    swept.bytes += bytes;
                }
            }
        }
        if self.sweep_trees(needed)? == Removed::InUse {
            // Some later sweep finds it unused.
            File::create(&mark).map_err(disk_error("make", &mark))?;
            return Ok(swept);
        }
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk_error("remove", &mark)(error))
            }
            _ => Ok(swept),
        }
    }

    /// The files and trees that images need; `None` if an image cannot be read.
    fn needed(&self) -> Result<Option<HashSet<PathBuf>>, StoreError> {
        let mut needed = HashSet::new();
        for image in self.images()? {
            let Ok((manifest, config)) = documents::read(self, &image.manifest, "") else {
                return Ok(None);
            };
            needed.insert(self.blob_path(&image.manifest.digest));
            needed.insert(self.blob_path(&image.resolved));
            needed.extend(manifest.blobs().map(|blob| self.blob_path(&blob.digest)));
            if let Ok(Payload::Rootfs(layers)) = layout::payload(&manifest, &config) {
                needed.insert(self.rootfs_path(&chain_id(&layers)));
            }
        }
        Ok(Some(needed))
    }

    /// Removes trees, and then the remarks about trees that have gone.
    fn sweep_trees(&self, mut needed: HashSet<PathBuf>) -> Result<Removed, StoreError> {
        let mut all = Removed::Yes;
        let entries = entries_of(&self.root().join("rootfs"))?;
        for tree in entries.iter().filter(|path| path.is_dir()) {
            if !needed.contains(tree) && rootfs::remove_unused(self, tree)? == Removed::InUse {
                all = Removed::InUse;
                needed.insert(tree.clone());
            }
        }
        // `HEX.…` are remarks about the tree `HEX`.
        let remarks = entries.iter().filter(|path| path.extension().is_some());
        for path in remarks.filter(|path| !needed.contains(&path.with_extension(""))) {
            fs::remove_file(path).map_err(disk_error("remove", path))?;
        }
        Ok(all)
    }

    fn sweep_downloads(&self) -> Result<(), StoreError> {
        for (path, _) in files_of(&self.root().join("ingest"))? {
            let touched = fs::metadata(&path).and_then(|found| found.modified());
            let age = touched.ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > RESUMABLE_FOR) {
                self.disk().remove(&path).map_err(disk_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The digests of the programs of all images, as far as they were ever opened; `None` if an image
    /// cannot be read, so that nobody can tell.
    pub fn programs(&self) -> Result<Option<HashSet<Digest>>, StoreError> {
        let remarks = entries_of(&self.root().join("rootfs"))?;
        let mut programs = HashSet::new();
        for image in self.images()? {
            let Ok((manifest, config)) = documents::read(self, &image.manifest, "") else {
                return Ok(None);
            };
            match layout::payload(&manifest, &config) {
                Ok(Payload::Layer(layer)) => drop(programs.insert(layer.digest)),
                Ok(Payload::Rootfs(layers)) => {
                    let tree = self.rootfs_path(&chain_id(&layers));
                    let about = remarks.iter().filter(|path| path.with_extension("") == tree);
                    let texts = about.filter_map(|path| fs::read_to_string(path).ok());
                    programs.extend(texts.filter_map(|text| text.parse::<Digest>().ok()));
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(programs))
    }

    /// Bytes of all blobs, and of all unpacked trees; what is half made included.
    pub fn usage(&self) -> Result<(u64, u64), StoreError> {
        let mut blobs = 0;
        for folder in ["blobs/sha256", "blobs/sha512", "ingest"] {
            blobs +=
                files_of(&self.root().join(folder))?.iter().map(|(_, bytes)| bytes).sum::<u64>();
        }
        let drafts = entries_of(&self.root().join("ingest"))?;
        let drafts: u64 = drafts.iter().map(|path| bytes_below(path)).sum();
        Ok((blobs, bytes_below(&self.root().join("rootfs")) + drafts))
    }
}
