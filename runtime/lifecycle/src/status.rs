//! Decides which events a container accepts.
//!
//! ```text
//! Created --start--> Running --pause--> Paused
//!    |                ^  |  ^            |  |
//!    |                |  |  +--unpause---+  |
//!    |              start|exit              |exit
//!    |                |  v                  |
//!    |              Stopped <---------------+
//!    |                |
//!    +----remove------+--remove--> Removed
//! ```
//!
//! Pure: no clock, no disk, no task. `record` applies it, and `driver`, which saves the new status
//! before it acts on it, so that a crash never leaves an act unrecorded.

use std::fmt;

use mote_spec::ExitStatus;
use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has been made, and has never run.
    Created,
    Running,
    /// It is not polled, and holds its memory.
    Paused,
    Stopped(ExitStatus),
    /// It is forgotten.
    Removed,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    Start,
    Pause,
    Unpause,
    /// It ended, of itself or by somebody's hand.
    Exit(ExitStatus),
    Remove,
}

/// An event that a container does not accept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a container that {status} cannot be {event}; {}", advice(*.status, *.event))]
pub struct Refused {
    pub status: Status,
    pub event: Event,
}

impl Status {
    /// Returns the status after `event`, or why the event is refused.
    pub fn after(self, event: Event) -> Result<Status, Refused> {
        match (self, event) {
            (Status::Created | Status::Stopped(_), Event::Start) => Ok(Status::Running),
            (Status::Running, Event::Pause) => Ok(Status::Paused),
            (Status::Paused, Event::Unpause) => Ok(Status::Running),
            (Status::Running | Status::Paused, Event::Exit(how)) => Ok(Status::Stopped(how)),
            // The first exit wins: a kill that arrives late is not an error.
            (Status::Stopped(_), Event::Exit(_)) => Ok(self),
            (Status::Created | Status::Stopped(_), Event::Remove) => Ok(Status::Removed),
            (Status::Running | Status::Paused | Status::Removed, Event::Start)
            | (
                Status::Created | Status::Paused | Status::Stopped(_) | Status::Removed,
                Event::Pause,
            )
            | (
                Status::Created | Status::Running | Status::Stopped(_) | Status::Removed,
                Event::Unpause,
            )
            | (Status::Created | Status::Removed, Event::Exit(_))
            | (Status::Running | Status::Paused | Status::Removed, Event::Remove) => {
                Err(Refused { status: self, event })
            }
        }
    }

    /// Whether the container has a guest.
    pub fn is_live(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }
}

/// What to do instead.
fn advice(status: Status, event: Event) -> &'static str {
    match (status, event) {
        (Status::Removed, _) => "make a new one",
        (Status::Paused, Event::Start) => "unpause it",
        (Status::Running | Status::Paused, Event::Remove) => "stop it first, or use --force",
        (Status::Running, Event::Start) => "restart it, or make another",
        (Status::Created | Status::Stopped(_), Event::Pause | Event::Unpause) => "start it first",
        (Status::Created, Event::Exit(_)) => "remove it",
        (_, _) => "there is nothing to do",
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Created => f.write_str("was only created"),
            Status::Running => f.write_str("is running"),
            Status::Paused => f.write_str("is paused"),
            Status::Stopped(how) => how.fmt(f),
            Status::Removed => f.write_str("was removed"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Event::Start => "started",
            Event::Pause => "paused",
            Event::Unpause => "unpaused",
            Event::Exit(_) => "stopped",
            Event::Remove => "removed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENDED: Status = Status::Stopped(ExitStatus::OutOfFuel);

    #[test]
    fn the_table_is_as_drawn() {
        let killed = Event::Exit(ExitStatus::Killed);
        let events = [Event::Start, Event::Pause, Event::Unpause, killed, Event::Remove];
        let table = [
            (Status::Created, [Some(Status::Running), None, None, None, Some(Status::Removed)]),
            (
                Status::Running,
                [None, Some(Status::Paused), None, Some(Status::Stopped(ExitStatus::Killed)), None],
            ),
            (
                Status::Paused,
                [
                    None,
                    None,
                    Some(Status::Running),
                    Some(Status::Stopped(ExitStatus::Killed)),
                    None,
                ],
            ),
            (ENDED, [Some(Status::Running), None, None, Some(ENDED), Some(Status::Removed)]),
            (Status::Removed, [None; 5]),
        ];
        for (from, row) in table {
            for (event, to) in events.into_iter().zip(row) {
                assert_eq!(from.after(event).ok(), to, "{from:?} {event:?}");
            }
        }
    }

    #[test]
    fn first_exit_wins() {
        assert_eq!(ENDED.after(Event::Exit(ExitStatus::Killed)), Ok(ENDED));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refused = Status::Running.after(Event::Remove).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a container that is running cannot be removed; stop it first, or use --force"
        );
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Start),
            Just(Event::Pause),
            Just(Event::Unpause),
            any::<u32>().prop_map(|code| Event::Exit(ExitStatus::Exited(code))),
            Just(Event::Exit(ExitStatus::Killed)),
            Just(Event::Remove),
        ]
    }

    proptest! {
        /// Statement 2.1: whatever happens, every change is one that the model draws, and a removed
        /// container never comes back.
        #[test]
        fn statement_2_1_every_change_is_a_valid_transition(
            events in proptest::collection::vec(any_event(), 0..40)
        ) {
            let mut status = Status::Created;
            for event in events {
                let Ok(next) = status.after(event) else { continue };
                let valid = match (status, next) {
                    (Status::Created, Status::Running | Status::Removed) => true,
                    (Status::Running, Status::Paused | Status::Stopped(_)) => true,
                    (Status::Paused, Status::Running | Status::Stopped(_)) => true,
                    (Status::Stopped(_), Status::Running | Status::Removed) => true,
                    (Status::Stopped(a), Status::Stopped(b)) => a == b,
                    _ => false,
                };
                prop_assert!(valid, "{:?} to {:?}", status, next);
                status = next;
            }
        }
    }
}
