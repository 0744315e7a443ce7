//! The program of an image: Wasm in a file or in memory, which its digest names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use mote_spec::Digest;

use crate::error::{OpenError, StoreError};
use crate::hash::{hash, sha256};
use crate::manifest::Descriptor;
use crate::media::Magic;
use crate::store::Store;

/// The largest program that is read.
const LARGEST_MODULE: u64 = 512 << 20;

/// A Wasm binary that may not have been read yet; its digest names what it must be.
#[derive(Debug, Clone)]
pub struct Code {
    digest: Digest,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    Memory(Vec<u8>),
}

impl Code {
    /// Wraps bytes that are in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Code {
        Code { digest: sha256(&bytes), place: Place::Memory(bytes) }
    }

    /// A file that is known to hash to a digest.
    pub(crate) fn of_file(digest: Digest, path: PathBuf) -> Code {
        Code { digest, place: Place::File(path) }
    }

    /// What the binary hashes to.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads the binary, and verifies it.
    pub fn read(&self) -> Result<Vec<u8>, OpenError> {
        let path = match &self.place {
            Place::Memory(bytes) => return Ok(bytes.clone()),
            Place::File(path) => path,
        };
        let failed = |source| OpenError::Read { path: path.clone(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(LARGEST_MODULE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST_MODULE {
            return Err(OpenError::TooLarge { path: path.clone(), most: LARGEST_MODULE });
        }
        match hash(self.digest.algorithm(), &bytes) == self.digest {
            true => Ok(bytes),
            false => Err(StoreError::Damaged(self.digest.clone()).into()),
        }
    }
}

/// Looks at the program's first bytes; what the image calls it does not count.
pub(crate) fn check_magic(file: File, path: &Path, name: &str) -> Result<(), OpenError> {
    let mut first = Vec::new();
    let failed = |source| OpenError::Read { path: path.to_owned(), source };
    file.take(64).read_to_end(&mut first).map_err(failed)?;
    let name = || name.to_owned();
    match Magic::of(&first) {
        Magic::CoreModule | Magic::Component => Ok(()),
        Magic::Elf(platform) => Err(OpenError::Native { name: name(), platform }),
        Magic::Text => Err(OpenError::Text { name: name() }),
        Magic::Unknown => Err(OpenError::NotWasm { name: name() }),
    }
}

/// The code of a layer that is a program.
pub(crate) fn of_layer(store: &Store, layer: &Descriptor, name: &str) -> Result<Code, OpenError> {
    if !store.has(layer) {
        return Err(StoreError::Missing(layer.digest.clone()).into());
    }
    let path = store.blob_path(&layer.digest);
    let file =
        File::open(&path).map_err(|source| OpenError::Read { path: path.clone(), source })?;
    check_magic(file, &path, name)?;
    Ok(Code { digest: layer.digest.clone(), place: Place::File(path) })
}
