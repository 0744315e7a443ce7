//! Why the daemon does not do something: each kind has its status in docker's API.

use mote_lifecycle::{DriveError, NoRoom, RecordsError};

use crate::machine::ProgramError;
use crate::report::causes;

/// Why the daemon does not do something.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("No such container: {0}")]
    NoContainer(String),
    #[error("No such image: {0}")]
    NoImage(String),
    #[error("No such {what}: {name}")]
    Nothing { what: &'static str, name: String },
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    Unavailable(&'static str),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotModified(&'static str),
    #[error("{0}")]
    Failed(String),
}

/// The error of a request that cannot be understood.
pub(crate) fn bad(why: impl std::fmt::Display) -> DaemonError {
    DaemonError::BadRequest(why.to_string())
}

impl From<RecordsError> for DaemonError {
    fn from(error: RecordsError) -> DaemonError {
        match error {
            RecordsError::NameTaken(_) | RecordsError::Exists(_) | RecordsError::Stale(_) => {
                DaemonError::Conflict(error.to_string())
            }
            RecordsError::None(name) => DaemonError::NoContainer(name),
            RecordsError::Several(_) => DaemonError::BadRequest(error.to_string()),
            RecordsError::Folder { .. }
            | RecordsError::Full { .. }
            | RecordsError::Database { .. }
            | RecordsError::Damaged { .. } => DaemonError::Failed(causes(&error)),
        }
    }
}

impl From<DriveError> for DaemonError {
    fn from(error: DriveError) -> DaemonError {
        match error {
            DriveError::Refused(refused) => DaemonError::Conflict(refused.to_string()),
            DriveError::Records(error) => error.into(),
            DriveError::Start(why) => DaemonError::Failed(why),
            DriveError::Gone => DaemonError::NoContainer("it was removed meanwhile".to_owned()),
        }
    }
}

impl From<ProgramError> for DaemonError {
    fn from(error: ProgramError) -> DaemonError {
        DaemonError::Failed(causes(&error))
    }
}

impl From<mote_image::StoreError> for DaemonError {
    fn from(error: mote_image::StoreError) -> DaemonError {
        match error {
            mote_image::StoreError::NoImage(name) => DaemonError::NoImage(name),
            error => DaemonError::Failed(causes(&error)),
        }
    }
}

impl From<mote_image::OpenError> for DaemonError {
    fn from(error: mote_image::OpenError) -> DaemonError {
        DaemonError::Failed(causes(&error))
    }
}

impl From<mote_spec::AnnotationError> for DaemonError {
    fn from(error: mote_spec::AnnotationError) -> DaemonError {
        DaemonError::BadRequest(causes(&error))
    }
}

impl From<mote_spec::PolicyError> for DaemonError {
    fn from(error: mote_spec::PolicyError) -> DaemonError {
        DaemonError::Forbidden(causes(&error))
    }
}

impl From<NoRoom> for DaemonError {
    fn from(error: NoRoom) -> DaemonError {
        DaemonError::Conflict(error.to_string())
    }
}
