//! Why the store, unpacking and opening fail: one type for each stage.

use std::io;
use std::path::{Path, PathBuf};

use mote_spec::Digest;

use crate::bounds::OverBudget;
use crate::layout::LayoutError;
use crate::manifest::ManifestError;

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {doing} {path}")]
    Disk { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the image index at {path} is damaged; `mote system check --repair` can mend it")]
    Index { path: PathBuf, source: serde_json::Error },
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    #[error("blob {0} is damaged: its content hashes to something else")]
    Damaged(Digest),
    #[error("{0} has {1} bytes, more than a manifest or configuration may have")]
    TooLarge(Digest, u64),
    #[error("content that should be {expected} hashes to {found}")]
    Mismatch { expected: Digest, found: Digest },
    #[error("content that should have {expected} bytes has {found}")]
    Size { expected: u64, found: u64 },
    #[error("{needed} bytes are needed, and the disk has {free} free")]
    NoSpace { needed: u64, free: u64 },
    #[error("no image is named {0}")]
    NoImage(String),
}

/// Makes an error of a disk operation, naming what was done and to what.
pub(crate) fn disk_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Disk { doing, path: path.to_owned(), source }
}

/// Why layers cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("layer {digest} is not readable as a tar archive")]
    Tar { digest: Digest, source: io::Error },
    #[error("layer {digest} cannot place `{path}`")]
    Entry { digest: Digest, path: String, source: io::Error },
    #[error("layer {digest} names `{path}`, which is outside of its file system")]
    Outside { digest: Digest, path: String },
    #[error("layer {digest} cannot be unpacked")]
    OverBudget { digest: Digest, source: OverBudget },
    #[error("layer {digest} unpacks to {found}, and the image's configuration says {expected}")]
    DiffId { digest: Digest, expected: Digest, found: Digest },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an image cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("the manifest of {name} cannot be read")]
    Manifest { name: String, source: ManifestError },
    #[error("the configuration of {name} cannot be read")]
    Config { name: String, source: serde_json::Error },
    #[error("{name} cannot run here")]
    Layout { name: String, source: LayoutError },
    #[error("{name} holds a native program for {platform}, and mote runs Wasm")]
    Native { name: String, platform: &'static str },
    #[error("{name} holds WebAssembly text; an image has to hold it in binary form")]
    Text { name: String },
    #[error("{name} is not Wasm: its first bytes are those of something else")]
    NotWasm { name: String },
    #[error("{name} has no file `{program}` to run")]
    NoProgram { name: String, program: String },
    #[error(
        "{name} does not say what to run, and has {found} .wasm files; name one with --entrypoint"
    )]
    Undecided { name: String, found: usize },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the program {path} has more than {most} bytes")]
    TooLarge { path: PathBuf, most: u64 },
}
