//! What keeps the record of a container, and why it may not: the driver saves before it acts.

use std::path::PathBuf;

use mote_spec::{ContainerId, ContainerName};

use crate::record::Record;

/// What keeps records: the database, or a test's that fails.
pub trait Keep: Send + Sync + 'static {
    /// Saves a changed record over the one that it was made of.
    fn update(
        &self,
        from: &Record,
        to: &Record,
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;
    /// Forgets a record that says that it was removed.
    fn delete(
        &self,
        from: &Record,
        to: &Record,
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;
}

/// Why records cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordsError {
    #[error("cannot make the folder of {path}: {why}")]
    Folder { path: PathBuf, why: String },
    #[error("cannot use the records in {path}: {why}")]
    Database { path: PathBuf, why: String },
    #[error(
        "cannot use the records in {path}: the disk is full; `mote rm` and `mote rmi` make room"
    )]
    Full { path: PathBuf },
    #[error("the record of {id} cannot be understood: {why}")]
    Damaged { id: String, why: String },
    #[error("the name {0} is taken by another container")]
    NameTaken(ContainerName),
    #[error("container {0} was changed by another process")]
    Stale(ContainerId),
    #[error("container {0} is there already")]
    Exists(ContainerId),
    #[error("no container is called {0}")]
    None(String),
    #[error("{0} could be several containers; write more of its id")]
    Several(String),
}
