//! Images on this machine: from a manifest to a program.
//!
//! ```text
//! manifest --select, layout--> layers --blob--> Store --artifact--> Artifact
//! ```
//!
//! Everything that comes in is hostile until it has been checked against a digest that something
//! trusted named. Never runs a program, knows no network, and never reads the process environment.

pub mod archive;
mod artifact;
mod blob;
pub mod bounds;
mod check;
mod code;
mod deep_tree;
pub mod disk;
mod documents;
mod error;
#[cfg(test)]
mod faults;
mod hash;
mod layer;
pub mod layout;
mod lease;
pub mod manifest;
pub mod media;
mod pack;
mod packing;
pub mod rootfs;
mod save;
pub mod select;
mod source;
mod store;
mod sweep;
mod target;
mod tree;

pub use artifact::{Artifact, Overrides, Rootfs, open};
pub use blob::{Ingest, Verified};
pub use check::{Problem, Repaired};
pub use code::Code;
pub use deep_tree::{bytes_below, remove_tree};
pub use documents::read;
pub use error::{OpenError, StoreError, UnpackError};
pub use hash::{hash, sha256};
pub use lease::Lease;
pub use pack::{Description, Kind, pack};
pub use save::{SaveError, save};
pub use source::Source;
pub use store::{REF_NAME, Store, Stored};
pub use sweep::Swept;
pub use target::Target;
pub use tree::Search;
