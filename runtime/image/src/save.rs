//! Writes images as an archive: an OCI layout as a tar.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};

use mote_spec::{Digest, ImageRef};

use crate::archive::blob_name;
use crate::documents;
use crate::error::{StoreError, disk_error};
use crate::hash::Hasher;
use crate::lease::Lease;
use crate::manifest::Descriptor;
use crate::store::{REF_NAME, Store, Stored, empty_index};

/// Why images cannot be written to an archive.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("cannot write the archive")]
    Write { source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes images as an OCI archive that `mote load`, skopeo and podman read. Every blob is verified
/// on its way.
///
/// # Errors
/// Fails if a blob is missing or damaged; what was written until then is worth nothing.
pub fn save(
    store: &Store,
    _lease: &Lease,
    images: &[Stored],
    to: impl Write,
) -> Result<(), SaveError> {
    let failed = |source| SaveError::Write { source };
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(256 << 10, to));
    let mut index = empty_index();
    let mut written = HashSet::new();
    for image in images {
        let name = image.name.as_ref().map(ImageRef::to_string);
        let (manifest, _) = documents::read(store, &image.manifest, "")
            .map_err(|_| StoreError::Damaged(image.manifest.digest.clone()))?;
        for blob in std::iter::once(&image.manifest).chain(manifest.blobs()) {
            if written.insert(blob.digest.clone()) {
                append_blob(store, &mut tar, blob)?;
            }
        }
        let mut entry = image.manifest.clone();
        entry.annotations =
            name.map_or_else(BTreeMap::new, |name| BTreeMap::from([(REF_NAME.to_owned(), name)]));
        index.manifests.push(entry);
    }
    let bytes = serde_json::to_vec(&index).expect("an index is always JSON");
    append(&mut tar, "index.json", bytes.len() as u64, bytes.as_slice()).map_err(failed)?;
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    append(&mut tar, "oci-layout", layout.len() as u64, layout.as_slice()).map_err(failed)?;
    tar.into_inner().and_then(|mut out| out.flush()).map_err(failed)
}

fn append_blob(
    store: &Store,
    tar: &mut tar::Builder<impl Write>,
    blob: &Descriptor,
) -> Result<(), SaveError> {
    if !store.has(blob) {
        return Err(StoreError::Missing(blob.digest.clone()).into());
    }
    let path = store.blob_path(&blob.digest);
    let file = File::open(&path).map_err(disk_error("read", &path))?;
    let mut read = Verified { inner: file, hasher: Hasher::new(blob.digest.algorithm()) };
    append(tar, &blob_name(&blob.digest), blob.size, &mut read)
        .map_err(|source| SaveError::Write { source })?;
    match read.digest() == blob.digest {
        true => Ok(()),
        false => Err(StoreError::Damaged(blob.digest.clone()).into()),
    }
}

/// A reader that hashes what passes.
struct Verified<R> {
    inner: R,
    hasher: Hasher,
}

impl<R> Verified<R> {
    fn digest(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    from: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, from)
}
