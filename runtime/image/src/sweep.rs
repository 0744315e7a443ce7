//! Removes what no image needs, and finds and mends what a crash or a bad disk damaged.
//!
//! Mark and sweep over a few dozen blobs; nothing is counted, so nothing can be miscounted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mote_spec::{Digest, ImageRef};

use crate::artifact;
use crate::blob;
use crate::layout::{self, Payload};
use crate::rootfs::chain_id;
use crate::store::{Store, StoreError, Stored, disk_error, empty_index};

/// Held while blobs or trees are made that no reference names yet, or are being opened.
pub struct Lease(
    #[expect(dead_code, reason = "the lock is let go of when the file is closed")] File,
);

/// What a sweep took away.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    pub files: u64,
    pub bytes: u64,
}

/// Something in the store that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The index cannot be read, so that no image has a name.
    Index,
    /// A blob's content is not what its name says.
    Damaged { digest: Digest },
    /// An image lacks something, and cannot run until it is pulled again.
    Incomplete { image: Option<ImageRef>, digest: Digest },
    /// A file that nothing in the store accounts for.
    Stray { path: PathBuf },
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
            Problem::Stray { path } => write!(f, "{} belongs to nothing", path.display()),
        }
    }
}

impl Store {
    /// Keeps what is being made from being swept, for as long as the lease is held.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let file = self.lease_file()?;
        file.lock_shared().map_err(disk_error("lock", self.root()))?;
        Ok(Lease(file))
    }

    fn lease_file(&self) -> Result<File, StoreError> {
        let path = self.root().join("leases");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        file.map_err(disk_error("open", &path))
    }

    /// Removes blobs and trees that no named image needs.
    ///
    /// Does nothing while another process holds a lease; its end, or the next sweep, is soon enough.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        let file = self.lease_file()?;
        if file.try_lock().is_err() {
            return Ok(Swept::default());
        }
        let mut needed = HashSet::new();
        for image in self.images()? {
            // An image that cannot be read keeps its manifest, so that a check still finds it.
            needed.insert(self.blob_path(&image.manifest.digest));
            needed.extend(self.needs(&image).unwrap_or_default());
        }
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
        self.sweep_trees(&needed)?;
        Ok(swept)
    }

    /// The files and trees that an image needs.
    fn needs(&self, image: &Stored) -> Option<Vec<PathBuf>> {
        let (manifest, config) = artifact::read(self, &image.manifest, "").ok()?;
        let mut paths =
            vec![self.blob_path(&image.manifest.digest), self.blob_path(&image.resolved)];
        paths.extend(manifest.blobs().map(|blob| self.blob_path(&blob.digest)));
        if let Ok(Payload::Rootfs(layers)) = layout::payload(&manifest, &config) {
            let ids: Option<Vec<Digest>> =
                layers.iter().map(|layer| layer.diff_id.clone()).collect();
            let blobs = || layers.iter().map(|layer| layer.blob.digest.clone()).collect();
            paths.push(self.rootfs_path(&chain_id(&ids.unwrap_or_else(blobs))));
        }
        Some(paths)
    }

    fn sweep_trees(&self, needed: &HashSet<PathBuf>) -> Result<(), StoreError> {
        for path in entries_of(&self.root().join("rootfs"))? {
            // `HEX.…` are remarks about the tree `HEX`.
            let tree = path.with_extension("");
            if needed.contains(&tree) {
                continue;
            }
            if path.is_dir() {
                // A tree that a container uses is locked by it.
                let unused = File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok());
                if unused {
                    fs::remove_dir_all(&path).map_err(disk_error("remove", &path))?;
                }
            } else {
                fs::remove_file(&path).map_err(disk_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Looks at everything in the store; hashes every blob.
    pub fn check(&self) -> Result<Vec<Problem>, StoreError> {
        let _lease = self.lease()?;
        let mut problems = Vec::new();
        let images = match self.images() {
            Ok(images) => images,
            Err(StoreError::Index { .. }) => {
                problems.push(Problem::Index);
                Vec::new()
            }
            Err(StoreError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                problems.push(Problem::Index);
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        for image in &images {
            self.check_image(image, &mut problems);
        }
        for algorithm in ["sha256", "sha512"] {
            for (path, _) in files_of(&self.root().join("blobs").join(algorithm))? {
                check_blob(algorithm, &path, &mut problems)?;
            }
        }
        Ok(problems)
    }

    fn check_image(&self, image: &Stored, problems: &mut Vec<Problem>) {
        let mut lacks = |digest: &Digest| {
            problems
                .push(Problem::Incomplete { image: image.name.clone(), digest: digest.clone() });
        };
        if !self.has(&image.manifest) {
            return lacks(&image.manifest.digest);
        }
        let Ok((manifest, _)) = artifact::read(self, &image.manifest, "") else {
            return lacks(&image.manifest.digest);
        };
        for blob in manifest.blobs() {
            if !self.has(blob) {
                lacks(&blob.digest);
            }
        }
    }

    /// Mends what `check` found: what is damaged goes, and what then lacks something loses its name,
    /// so that the next pull brings it whole. Interrupted downloads go too.
    ///
    /// Waits until nobody holds a lease: what is being made would look like a leftover.
    pub fn repair(&self, problems: &[Problem]) -> Result<(), StoreError> {
        let alone = self.lease_file()?;
        alone.lock().map_err(disk_error("lock", self.root()))?;
        for problem in problems {
            match problem {
                Problem::Index => {
                    let _lock = self.lock()?;
                    self.write_index(&empty_index())?;
                }
                Problem::Damaged { digest } => {
                    let path = self.blob_path(digest);
                    self.disk().remove(&path).map_err(disk_error("remove", &path))?;
                }
                Problem::Stray { path } => {
                    self.disk().remove(path).map_err(disk_error("remove", path))?;
                }
                Problem::Incomplete { .. } => {}
            }
        }
        let whole: HashSet<Digest> = self
            .images()?
            .iter()
            .filter(|image| self.is_whole(image))
            .map(|image| image.manifest.digest.clone())
            .collect();
        self.change_index(|index| index.manifests.retain(|entry| whole.contains(&entry.digest)))?;
        for path in entries_of(&self.root().join("ingest"))? {
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(disk_error("remove", &path))?;
        }
        Ok(())
    }

    fn is_whole(&self, image: &Stored) -> bool {
        let mut problems = Vec::new();
        self.check_image(image, &mut problems);
        problems.is_empty()
    }

    /// Bytes of all blobs, and of all unpacked trees.
    pub fn usage(&self) -> Result<(u64, u64), StoreError> {
        let mut blobs = 0;
        for folder in ["blobs/sha256", "blobs/sha512", "ingest"] {
            blobs +=
                files_of(&self.root().join(folder))?.iter().map(|(_, bytes)| bytes).sum::<u64>();
        }
        Ok((blobs, tree_bytes(&self.root().join("rootfs"))))
    }
}

fn check_blob(algorithm: &str, path: &Path, problems: &mut Vec<Problem>) -> Result<(), StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(digest) = format!("{algorithm}:{name}").parse::<Digest>() else {
        problems.push(Problem::Stray { path: path.to_owned() });
        return Ok(());
    };
    let file = File::open(path).map_err(disk_error("read", path))?;
    let (found, _) =
        blob::hash_reader(digest.algorithm(), file).map_err(disk_error("read", path))?;
    if found != digest {
        problems.push(Problem::Damaged { digest });
    }
    Ok(())
}

fn entries_of(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(disk_error("read", folder))?;
    let paths: io::Result<Vec<PathBuf>> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(disk_error("read", folder))
}

fn files_of(folder: &Path) -> Result<Vec<(PathBuf, u64)>, StoreError> {
    let sized = |path: PathBuf| {
        let found = fs::symlink_metadata(&path).ok().filter(|found| found.is_file())?;
        Some((path, found.len()))
    };
    Ok(entries_of(folder)?.into_iter().filter_map(sized).collect())
}

fn tree_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => tree_bytes(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |found| found.len()),
            _ => 0,
        })
        .sum()
}
