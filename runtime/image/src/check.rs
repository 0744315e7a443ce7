//! Finds and mends what a bad disk, or somebody's hand, damaged in the store.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use mote_spec::{Digest, ImageRef};

use crate::error::{StoreError, disk_error};
use crate::hash;
use crate::manifest::{Descriptor, Document, ImageConfig, Index, LARGEST_MANIFEST, Manifest};
use crate::media;
use crate::rootfs;
use crate::store::{Store, Stored, empty_index, entries_of, files_of};

/// Something in the store that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The index cannot be read, so that no image has a name.
    Index,
    /// A blob's content is not what its name says.
    Damaged { digest: Digest },
    /// An image lacks something, and cannot run until it is pulled again.
    Incomplete { image: Option<ImageRef>, digest: Digest },
    /// An unpacked file system is not what was unpacked.
    Tree { path: PathBuf },
    /// A file that nothing in the store accounts for.
    Stray { path: PathBuf },
}

/// What mending cost.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Images that lacked something, and are no longer listed.
    pub dropped: Vec<Stored>,
    /// Images that were found again without their names, since the index was damaged.
    pub nameless: Vec<Stored>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Index => f.write_str("the index of images is damaged"),
            Problem::Damaged { digest } => write!(f, "blob {digest} is damaged"),
            Problem::Incomplete { image: Some(image), digest } => {
                write!(f, "image {} lacks {digest}", image.familiar())
            }
            Problem::Incomplete { image: None, digest } => {
                write!(f, "an unnamed image lacks {digest}")
            }
            Problem::Tree { path } => {
                write!(f, "the unpacked files at {} are damaged", path.display())
            }
            Problem::Stray { path } => write!(f, "{} belongs to nothing", path.display()),
        }
    }
}

impl Store {
    /// Looks at everything in the store; hashes every blob and every unpacked file.
    pub fn check(&self) -> Result<Vec<Problem>, StoreError> {
        let _lease = self.lease()?;
        let mut problems = Vec::new();
        let images = match self.images() {
            Ok(images) => images,
            Err(error) if no_index(&error) => {
                problems.push(Problem::Index);
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        for image in &images {
            problems.extend(
                self.lacking(image)
                    .into_iter()
                    .map(|digest| Problem::Incomplete { image: image.name.clone(), digest }),
            );
        }
        for algorithm in ["sha256", "sha512"] {
            for (path, _) in files_of(&self.root().join("blobs").join(algorithm))? {
                problems.extend(check_blob(algorithm, &path)?);
            }
        }
        for path in entries_of(&self.root().join("rootfs"))? {
            if path.is_dir() && !rootfs::is_sound(&path) {
                problems.push(Problem::Tree { path });
            }
        }
        Ok(problems)
    }

    /// What an image needs and the store has not.
    fn lacking(&self, image: &Stored) -> Vec<Digest> {
        let bytes = self.read_small(&image.manifest.digest).unwrap_or_default();
        let Ok(manifest) = Manifest::parse(&bytes) else {
            return vec![image.manifest.digest.clone()];
        };
        let config = self.read_small(&manifest.config.digest);
        let sound = config.is_ok_and(|config| ImageConfig::parse(&config).is_ok());
        let config = (!sound).then(|| manifest.config.digest.clone());
        let absent = manifest.layers.iter().filter(|blob| !self.has(blob));
        config.into_iter().chain(absent.map(|blob| blob.digest.clone())).collect()
    }

    /// Mends what `check` found: what is damaged goes, and what then lacks something is no longer
    /// listed, so that the next pull brings it whole. A damaged index is put aside as
    /// `index.json.damaged`, and made anew of the manifests that are there.
    ///
    /// Waits until nobody holds a lease: what is being made would look like a leftover.
    pub fn repair(&self, problems: &[Problem]) -> Result<Repaired, StoreError> {
        let alone = self.lease_file()?;
        alone.lock().map_err(disk_error("lock", self.root()))?;
        for problem in problems {
            match problem {
                // Somebody may have mended it before we were alone.
                Problem::Damaged { digest } => {
                    let path = self.blob_path(digest);
                    if path.exists() && check_blob(digest.algorithm().name(), &path)?.is_some() {
                        self.discard(digest)?;
                    }
                }
                Problem::Stray { path } => {
                    self.disk().remove(path).map_err(disk_error("remove", path))?;
                }
                Problem::Tree { path } => {
                    if path.exists() && !rootfs::is_sound(path) {
                        rootfs::remove_unused(self, path)?;
                    }
                }
                Problem::Index | Problem::Incomplete { .. } => {}
            }
        }
        if problems.contains(&Problem::Index) {
            self.rebuild_index()?;
        }
        let (whole, dropped): (Vec<Stored>, Vec<Stored>) =
            self.images()?.into_iter().partition(|image| self.lacking(image).is_empty());
        let kept: HashSet<&Digest> = whole.iter().map(|image| &image.manifest.digest).collect();
        self.change_index(|index| index.manifests.retain(|entry| kept.contains(&entry.digest)))?;
        let nameless = match problems.contains(&Problem::Index) {
            true => whole.into_iter().filter(|image| image.name.is_none()).collect(),
            false => Vec::new(),
        };
        Ok(Repaired { dropped, nameless })
    }

    fn rebuild_index(&self) -> Result<(), StoreError> {
        let path = self.index_path();
        let aside = self.root().join("index.json.damaged");
        let _lock = self.lock()?;
        let index = Index { manifests: self.manifests()?, ..empty_index() };
        if path.exists() {
            self.disk().rename(&path, &aside).map_err(disk_error("rename", &path))?;
        }
        self.write_index(&index)
    }

    /// Every manifest among the blobs.
    fn manifests(&self) -> Result<Vec<Descriptor>, StoreError> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            for (path, size) in files_of(&self.root().join("blobs").join(algorithm))? {
                let Some(digest) = digest_of(algorithm, &path) else { continue };
                if size > LARGEST_MANIFEST {
                    continue;
                }
                let bytes = self.read_small(&digest).unwrap_or_default();
                if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes) {
                    let media_type = match manifest.media_type.as_str() {
                        "" => media::OCI_MANIFEST,
                        named => named,
                    };
                    found.push(Descriptor::new(media_type, digest, size));
                }
            }
        }
        Ok(found)
    }
}

fn no_index(error: &StoreError) -> bool {
    match error {
        StoreError::Index { .. } => true,
        StoreError::Disk { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn digest_of(algorithm: &str, path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    format!("{algorithm}:{name}").parse().ok()
}

fn check_blob(algorithm: &str, path: &Path) -> Result<Option<Problem>, StoreError> {
    let Some(digest) = digest_of(algorithm, path) else {
        return Ok(Some(Problem::Stray { path: path.to_owned() }));
    };
    let file = File::open(path).map_err(disk_error("read", path))?;
    let (found, _) =
        hash::hash_reader(digest.algorithm(), file).map_err(disk_error("read", path))?;
    Ok((found != digest).then_some(Problem::Damaged { digest }))
}
