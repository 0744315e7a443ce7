//! Phases of a container and of an exec, as containerd knows them.

use containerd_shim_protos::api;
use mote_lifecycle::Time;

/// Phase of a container or an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Running,
    Paused,
    Stopped { code: u8, at: Option<Time> },
}

impl Phase {
    pub(crate) fn status(self) -> api::Status {
        match self {
            Phase::Created => api::Status::CREATED,
            Phase::Running => api::Status::RUNNING,
            Phase::Paused => api::Status::PAUSED,
            Phase::Stopped { .. } => api::Status::STOPPED,
        }
    }
}
