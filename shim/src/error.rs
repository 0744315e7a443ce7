//! What goes wrong in a shim, and how containerd is told.

use std::io;
use std::path::PathBuf;

use containerd_shim_protos::ttrpc::{self, Code};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("cannot read the specification {path}")]
    Spec { path: PathBuf, source: oci_spec::OciSpecError },
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
    #[error("cannot mount {what} at {target}")]
    Mount { what: String, target: PathBuf, source: io::Error },
    #[error(transparent)]
    Program(#[from] mote_image::OpenError),
    #[error(transparent)]
    Engine(#[from] mote_engine::EngineError),
    #[error(transparent)]
    Annotation(#[from] mote_spec::AnnotationError),
    #[error(transparent)]
    Grant(#[from] mote_spec::GrantError),
    #[error(transparent)]
    Refused(#[from] mote_spec::PolicyError),
    #[error("its name cannot be used")]
    Name(#[from] mote_spec::IdError),
    #[error(transparent)]
    Drive(#[from] mote_lifecycle::DriveError),
    #[error("the OCI runtime cannot {what} it")]
    Runtime { what: &'static str, source: Box<runc::error::Error> },
    #[error("cannot understand {what}")]
    Message { what: &'static str, source: containerd_shim_protos::protobuf::Error },
    #[error("cannot understand {what}")]
    Json { what: &'static str, source: serde_json::Error },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}: not found")]
    NotFound(String),
    #[error("{0}: already exists")]
    Exists(String),
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Unimplemented(&'static str),
}

impl ShimError {
    /// The error and what caused it, on one line: `kubectl describe` shows it.
    pub(crate) fn text(&self) -> String {
        use std::error::Error;
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            let more = next.to_string();
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            cause = next.source();
        }
        // There are no flags here.
        mote_spec::foreign::shown(&mote_spec::in_annotations(&text))
    }

    fn code(&self) -> Code {
        use mote_lifecycle::DriveError;
        match self {
            ShimError::NotFound(_) | ShimError::Drive(DriveError::Gone) => Code::NOT_FOUND,
            ShimError::Exists(_) => Code::ALREADY_EXISTS,
            ShimError::Precondition(_) | ShimError::Drive(DriveError::Refused(_)) => {
                Code::FAILED_PRECONDITION
            }
            ShimError::Unimplemented(_) => Code::UNIMPLEMENTED,
            ShimError::Invalid(_)
            | ShimError::Annotation(_)
            | ShimError::Grant(_)
            | ShimError::Name(_)
            | ShimError::Message { .. }
            | ShimError::Json { .. } => Code::INVALID_ARGUMENT,
            ShimError::File { .. }
            | ShimError::Spec { .. }
            | ShimError::System { .. }
            | ShimError::Mount { .. }
            | ShimError::Runtime { .. }
            | ShimError::Program(_)
            | ShimError::Engine(_)
            | ShimError::Refused(_)
            | ShimError::Drive(DriveError::Records(_) | DriveError::Start(_)) => Code::UNKNOWN,
        }
    }
}

impl From<ShimError> for ttrpc::Error {
    fn from(error: ShimError) -> ttrpc::Error {
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.code(), error.text()))
    }
}
