//! How a container ended, and the exit code that says so.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a guest ended. A guest's failure is this value, never an error of mote.
///
/// A guest may exit with any code itself, so the reason is kept apart from the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// The guest returned or called exit with this code.
    Exited(u32),
    /// The guest did what WebAssembly forbids: unreachable, a bad access, a division by zero.
    Trapped,
    /// Memory was refused at the limit, and the guest died of it.
    OutOfMemory,
    /// The instruction limit was used up.
    OutOfFuel,
    /// The time limit passed.
    TimedOut,
    /// Somebody stopped it and it ended in time.
    Stopped,
    /// Somebody killed it.
    Killed,
    /// The process that ran it went, and took it along.
    Lost,
    /// It could not be started: its image or something that it was granted was not there.
    NotStarted,
}

impl ExitStatus {
    /// The exit code of the `mote` process, as DESIGN's table of codes has it.
    ///
    /// An operating system keeps eight bits. A guest's code whose low eight bits are zero though it
    /// is not zero becomes 255, so that a failure never reads as a success.
    pub fn code(self) -> u8 {
        match self {
            ExitStatus::Exited(code) => match (code, code as u8) {
                (0, _) => 0,
                (_, 0) => 255,
                (_, low) => low,
            },
            ExitStatus::Trapped => 134,
            ExitStatus::OutOfMemory | ExitStatus::Killed | ExitStatus::Lost => 137,
            ExitStatus::NotStarted => 125,
            ExitStatus::OutOfFuel => 152,
            ExitStatus::TimedOut => 124,
            ExitStatus::Stopped => 143,
        }
    }

    /// Whether the guest reported success.
    pub fn success(self) -> bool {
        self.code() == 0
    }

    /// Whether the guest ended of itself, with a code of its own choosing.
    pub fn is_guests_own(self) -> bool {
        matches!(self, ExitStatus::Exited(_))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(code) => write!(f, "exited with code {code}"),
            ExitStatus::Trapped => f.write_str("trapped"),
            ExitStatus::OutOfMemory => f.write_str("ran out of memory"),
            ExitStatus::OutOfFuel => f.write_str("ran out of fuel"),
            ExitStatus::TimedOut => f.write_str("timed out"),
            ExitStatus::Stopped => f.write_str("was stopped"),
            ExitStatus::Killed => f.write_str("was killed"),
            ExitStatus::Lost => f.write_str("was lost with its host"),
            ExitStatus::NotStarted => f.write_str("could not be started"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        let table = [
            (ExitStatus::Exited(0), 0),
            (ExitStatus::Exited(7), 7),
            (ExitStatus::Exited(256), 255),
            (ExitStatus::Exited(257), 1),
            (ExitStatus::TimedOut, 124),
            (ExitStatus::Trapped, 134),
            (ExitStatus::OutOfMemory, 137),
            (ExitStatus::Killed, 137),
            (ExitStatus::Lost, 137),
            (ExitStatus::NotStarted, 125),
            (ExitStatus::Stopped, 143),
            (ExitStatus::OutOfFuel, 152),
        ];
        for (status, code) in table {
            assert_eq!(status.code(), code, "{status}");
            assert_eq!(status.success(), code == 0, "{status}");
        }
    }
}
