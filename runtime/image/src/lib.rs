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
mod deep_tree;
pub mod disk;
#[cfg(test)]
mod faults;
mod layer;
pub mod layout;
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

pub use artifact::{Artifact, Code, OpenError, Overrides, Rootfs, open, read};
pub use blob::{Ingest, Verified, hash, sha256};
pub use check::{Problem, Repaired};
pub use deep_tree::{bytes_below, remove_tree};
pub use pack::{Description, Kind, pack};
pub use save::{SaveError, save};
pub use source::Source;
pub use store::{REF_NAME, Store, StoreError, Stored};
pub use sweep::{Lease, Swept};
pub use target::Target;
pub use tree::Search;
