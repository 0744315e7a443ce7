//! Commands to the driver of a container, and the channels between the two.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mote_engine::Gauge;
use mote_spec::{ContainerName, ExitStatus, Policy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::health::HealthStatus;
use crate::keep::RecordsError;
use crate::pool::Resources;
use crate::record::Record;
use crate::restart::RestartPolicy;
use crate::status::Refused;
use crate::workload::Ended;

/// How many commands may wait for a container.
pub(crate) const COMMANDS_AHEAD: usize = 16;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("it could not be started: {0}")]
    Start(String),
    #[error("the container is gone")]
    Gone,
}

/// What a driver is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    Start,
    /// Recovery starts what its policy wants to run.
    StartAgain,
    /// Ends the guest at once, and says in the record how.
    End(ExitStatus),
    /// Ends it if it runs, and starts it.
    Restart,
    /// It is not to be started again when it ends.
    LetEnd,
    /// Ends the guest as if it had failed: its restart policy decides.
    Fail(Box<Ended>),
    /// Ends it so, and starts it again after a pause, whatever its policy says.
    FailAndRestart(Box<Ended>),
    /// Ends the guest with its host; whether it is wanted is as before.
    EndWithHost,
    Pause,
    Unpause,
    Update(Box<Change>),
    Rename(ContainerName),
    Health(HealthStatus),
    Remove,
}

/// What can be changed of a container besides its name.
#[derive(Debug, Default)]
pub struct Change {
    pub policy: Option<Policy>,
    pub restart: Option<RestartPolicy>,
    /// What the host has to have for it.
    pub requires: Option<Resources>,
}

/// Where it says how that went.
pub(crate) type Reply = oneshot::Sender<Result<(), DriveError>>;

/// The driver's ends of its channels.
pub(crate) struct Ends {
    pub(crate) commands: mpsc::Receiver<(Command, Reply)>,
    pub(crate) record: watch::Sender<Arc<Record>>,
    pub(crate) gauge: watch::Sender<Arc<Gauge>>,
    pub(crate) waiting: Arc<AtomicBool>,
}
