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
mod check;
pub mod disk;
#[cfg(test)]
mod faults;
pub mod layout;
pub mod manifest;
pub mod media;
mod pack;
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
mod tree;

pub use artifact::{Artifact, Code, OpenError, Overrides, Rootfs, open, read};
pub use blob::{Ingest, Verified, sha256};
pub use check::{Problem, Repaired};
pub use pack::{Description, Kind, pack};
#[cfg(feature = "registry")]
pub use pull::{Progress, PullError, pull};
pub use save::{SaveError, save};
pub use source::Source;
pub use store::{REF_NAME, Store, StoreError, Stored};
pub use sweep::{Lease, Swept};
pub use tree::Search;
