//! Writes one blob: hashed while it is written, bounded by its descriptor, visible only when whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use mote_spec::Digest;

use crate::bounds::free_space;
use crate::disk::{Disk, DiskFile};
use crate::error::{StoreError, disk_error};
use crate::hash::{Hasher, hash_reader, sha256};
use crate::manifest::Descriptor;
use crate::store::Store;

/// A blob that is being written. Dropped before `finish`, what it has is kept to go on from.
pub struct Ingest {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    /// Held so that one process at a time downloads a blob of one owner.
    _lock: File,
    draft: PathBuf,
    target: PathBuf,
    expected: Descriptor,
    hasher: Hasher,
    written: u64,
}

/// What it takes for a blob to count as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Present {
    /// Its name and its size.
    BySize,
    /// Its content; what is there and damaged makes way.
    ByContent,
}

/// The owner of what this machine makes itself, or reads from archives.
const LOCAL: &str = "";

impl Store {
    /// Whether a blob is there with the size that it should have. Content is checked when it is read.
    pub fn has(&self, blob: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&blob.digest)).is_ok_and(|found| found.len() == blob.size)
    }

    /// Starts to write a blob of this machine's own, going on where an interrupted download stopped.
    ///
    /// Waits while another process downloads the same blob; `None` if it is there by then.
    pub fn ingest(&self, blob: &Descriptor) -> Result<Option<Ingest>, StoreError> {
        self.ingest_of(blob, LOCAL)
    }

    /// The same for a blob of one owner, such as a repository.
    ///
    /// # Errors
    /// As [`Store::ingest`] does.
    pub fn ingest_of(&self, blob: &Descriptor, owner: &str) -> Result<Option<Ingest>, StoreError> {
        ingest(self, blob, owner, Present::BySize)
    }

    /// Starts to write a blob anew unless one is there whose content is sound.
    pub(crate) fn ingest_sound(&self, blob: &Descriptor) -> Result<Option<Ingest>, StoreError> {
        ingest(self, blob, LOCAL, Present::ByContent)
    }

    /// Writes a small blob whole, and returns what points at it.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let blob = Descriptor::new(media_type, sha256(bytes), bytes.len() as u64);
        if let Some(mut ingest) = self.ingest(&blob)? {
            ingest.restart()?;
            ingest.write(bytes)?;
            ingest.finish()?;
        }
        Ok(blob)
    }

    /// Whether a blob is there and its content is what its name says.
    ///
    /// # Errors
    /// Fails also if the content is sound and of another size than is claimed: the claim is wrong then, and the blob
    /// is another image's.
    fn has_sound(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let path = self.blob_path(&blob.digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(disk_error("read", &path)(error)),
        };
        let (found, size) =
            hash_reader(blob.digest.algorithm(), file).map_err(disk_error("read", &path))?;
        match (found == blob.digest, size == blob.size) {
            (true, false) => Err(StoreError::Size { expected: blob.size, found: size }),
            (is_sound, _) => Ok(is_sound),
        }
    }

    /// Removes a blob, if it is there.
    pub(crate) fn discard(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        match self.disk().remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Begins, or goes on with, a blob. `None` if it is complete already.
pub(crate) fn ingest(
    store: &Store,
    blob: &Descriptor,
    owner: &str,
    present: Present,
) -> Result<Option<Ingest>, StoreError> {
    loop {
        if present == Present::BySize && store.has(blob) {
            return Ok(None);
        }
        let draft = store.ingest_path(&blob.digest, owner);
        let Some(lock) = lock_draft(&draft)? else { continue };
        match present {
            Present::BySize if store.has(blob) => return Ok(None),
            Present::ByContent if store.has_sound(blob)? => {
                // The draft was made only to be locked.
                store.disk().remove(&draft).map_err(disk_error("remove", &draft))?;
                return Ok(None);
            }
            Present::ByContent => store.discard(&blob.digest)?,
            Present::BySize => {}
        }
        let mut hasher = Hasher::new(blob.digest.algorithm());
        let written = rehash(&draft, &mut hasher)?;
        let file = store.disk().append(&draft).map_err(disk_error("open", &draft))?;
        let mut ingest = Ingest {
            disk: store.disk_handle(),
            file,
            _lock: lock,
            draft,
            target: store.blob_path(&blob.digest),
            expected: blob.clone(),
            hasher,
            written,
        };
        if written > blob.size {
            ingest.restart()?;
        }
        check_space(store, blob.size.saturating_sub(ingest.written))?;
        return Ok(Some(ingest));
    }
}

/// Refuses a blob that the disk has no room for, before its first byte.
fn check_space(store: &Store, needed: u64) -> Result<(), StoreError> {
    match free_space(store.root()) {
        Some(free) if needed > free => Err(StoreError::NoSpace { needed, free }),
        _ => Ok(()),
    }
}

/// Waits for the draft's lock; `None` if the draft was finished by another and is another file now.
fn lock_draft(draft: &PathBuf) -> Result<Option<File>, StoreError> {
    let open = || File::options().create(true).truncate(false).write(true).open(draft);
    let file = open().map_err(disk_error("open", draft))?;
    file.lock().map_err(disk_error("lock", draft))?;
    let same = match (fs::metadata(draft), file.metadata()) {
        (Ok(named), Ok(held)) => {
            use std::os::unix::fs::MetadataExt;
            (named.dev(), named.ino()) == (held.dev(), held.ino())
        }
        _ => false,
    };
    Ok(same.then_some(file))
}

fn rehash(draft: &PathBuf, hasher: &mut Hasher) -> Result<u64, StoreError> {
    let mut file = File::open(draft).map_err(disk_error("open", draft))?;
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match file.read(&mut buffer).map_err(disk_error("read", draft))? {
            0 => return Ok(total),
            count => {
                hasher.update(&buffer[..count]);
                total += count as u64;
            }
        }
    }
}

impl Ingest {
    /// How many bytes are there, from this download or an earlier one.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds bytes; refuses more than the descriptor promises before they reach the disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let total = self.written + bytes.len() as u64;
        if total > self.expected.size {
            return Err(StoreError::Size { expected: self.expected.size, found: total });
        }
        self.hasher.update(bytes);
        let append = |file: &mut Box<dyn DiskFile>| {
            file.write_all(bytes)?;
            file.hurry()
        };
        append(&mut self.file).map_err(disk_error("write", &self.draft))?;
        self.written = total;
        Ok(())
    }

    /// Throws away what is there.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.clear().map_err(disk_error("empty", &self.draft))?;
        self.hasher = Hasher::new(self.expected.digest.algorithm());
        self.written = 0;
        Ok(())
    }

    /// Verifies the blob, makes it durable, and gives it its name.
    pub fn finish(self) -> Result<(), StoreError> {
        self.verify()?.commit()
    }

    /// Verifies the blob; what does not verify is thrown away, so that the next attempt starts
    /// afresh.
    pub fn verify(mut self) -> Result<Verified, StoreError> {
        if self.written != self.expected.size {
            return Err(StoreError::Size { expected: self.expected.size, found: self.written });
        }
        let found = self.hasher.clone().finish();
        if found != self.expected.digest {
            self.restart()?;
            return Err(StoreError::Mismatch { expected: self.expected.digest, found });
        }
        Ok(Verified(self))
    }
}

/// A whole and verified blob that is not durable yet.
pub struct Verified(Ingest);

impl Verified {
    /// Makes the blob durable, and gives it its name.
    pub fn commit(self) -> Result<(), StoreError> {
        let Ingest { disk, mut file, draft, target, .. } = self.0;
        file.sync().map_err(disk_error("sync", &draft))?;
        disk.rename(&draft, &target).map_err(disk_error("rename", &draft))
    }
}
