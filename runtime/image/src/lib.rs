//! From an image's name to a program: registry client, local store, layouts, unpacking, archives.
//!
//! ```text
//! ImageRef --registry--> manifest --select, layout--> layers --blob--> Store --artifact--> Artifact
//! ```
//!
//! Everything that comes in is hostile until it has been checked against a digest that something
//! trusted named. Never runs a program, and never reads the process environment.

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
#[cfg(feature = "registry")]
mod pull;
#[cfg(feature = "registry")]
pub mod registry;
pub mod rootfs;
mod save;
pub mod select;
mod source;
mod store;
mod sweep;
mod target;
mod tree;

pub use artifact::{Artifact, Code, OpenError, Overrides, Rootfs, open, read};
pub use blob::{Ingest, Verified, sha256};
pub use check::{Problem, Repaired};
pub use deep_tree::{bytes_below, remove_tree};
pub use pack::{Description, Kind, pack};
#[cfg(feature = "registry")]
pub use pull::{Progress, PullError, pull};
pub use save::{SaveError, save};
pub use source::Source;
pub use store::{REF_NAME, Store, StoreError, Stored};
pub use sweep::{Lease, Swept};
pub use target::Target;
pub use tree::Search;
