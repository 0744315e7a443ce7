//! Signals to a guest's process, through whoever started it.

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

/// State that a process is brought into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProcessSignal {
    Runs,
    /// It does nothing at all: its guest may be where nothing else keeps it.
    Rests,
    Ends,
}

impl ProcessSignal {
    /// The signal that has it do so.
    pub(crate) fn signal(self) -> Signal {
        match self {
            ProcessSignal::Runs => Signal::CONT,
            ProcessSignal::Rests => Signal::STOP,
            ProcessSignal::Ends => Signal::KILL,
        }
    }
}
