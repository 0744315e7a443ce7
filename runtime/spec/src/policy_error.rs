//! Why a container gets no policy.

use std::path::PathBuf;

use crate::limits::OverCeiling;
use crate::security::Isolation;

/// Why a container is refused, and which flag or setting would allow it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{0}")]
    OverCeiling(#[from] OverCeiling),
    #[error("the image asks for {what}, which it was not granted; allow it with {flag}")]
    NotGranted { what: String, flag: String },
    #[error("{path} is outside the folders that this host's configuration lets volumes come from")]
    VolumeOutside { path: PathBuf },
    #[error("--network host is more than this host's configuration allows")]
    NetworkOverCeiling,
    #[error("two grants both appear at {0} in the container")]
    SamePlace(String),
    #[error("{0} needs a process of the container's own: leave --isolation shared out")]
    NeedsProcess(&'static str),
    #[error("this host's configuration allows no less than --isolation {0}")]
    IsolationBelow(Isolation),
    #[error(
        "--cap-add {0} would do nothing: a guest makes no system calls; grant it directories and connections"
    )]
    CapabilityAdded(String),
}
