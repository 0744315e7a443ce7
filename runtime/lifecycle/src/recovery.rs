//! Decides what to do with a container after a crash: of what was recorded, and whether its host lives.
//!
//! Pure. Liveness is a lock that the host holds, and never a process id.

use mote_spec::ExitStatus;

use crate::record::Record;
use crate::status::{Event, Status};

/// Whether the process that a record names as its host still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Alive,
    Gone,
}

/// What to do with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Its host looks after it.
    Leave,
    /// It is as it should be.
    Keep,
    /// It was running when its host went: that is recorded.
    Lost(Event),
    /// The same, and then it is started.
    LostThenStart(Event),
    /// It is started.
    Start,
}

/// Decides, for a host that starts and takes over what nobody looks after.
pub fn recover(record: &Record, host: Host) -> Recovery {
    let lost = ExitStatus::Lost;
    match (record.status(), host) {
        // It may be waiting to start it again.
        (Status::Running | Status::Paused | Status::Stopped(_), Host::Alive) => Recovery::Leave,
        (Status::Running | Status::Paused, Host::Gone) => {
            match record.restart.starts_with_host(Some(lost), record.wanted, record.restarts) {
                true => Recovery::LostThenStart(Event::Exit(lost)),
                false => Recovery::Lost(Event::Exit(lost)),
            }
        }
        (Status::Stopped(_), Host::Gone) => {
            match record.restart.starts_with_host(record.ending(), record.wanted, record.restarts) {
                true => Recovery::Start,
                false => Recovery::Keep,
            }
        }
        // What was never started waits for somebody to do so.
        (Status::Created | Status::Removed, Host::Alive | Host::Gone) => Recovery::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::record;
    use crate::restart::DesiredState;
    use crate::restart::RestartPolicy;
    use crate::time::Time;

    fn at(restart: &str, wanted: DesiredState, events: &[Event]) -> Record {
        let mut record = record("a");
        record.restart = restart.parse::<RestartPolicy>().unwrap();
        record.wanted = wanted;
        for event in events {
            record = record.after(*event, Time::now()).unwrap();
        }
        record
    }

    #[test]
    fn what_a_crash_leaves_is_decided_by_status_policy_and_lock() {
        let lost = Event::Exit(ExitStatus::Lost);
        let stopped = [Event::Start, Event::Exit(ExitStatus::Stopped)];
        let failed = [Event::Start, Event::Exit(ExitStatus::Trapped)];
        let table = [
            (at("no", DesiredState::Up, &[Event::Start]), Host::Alive, Recovery::Leave),
            (at("no", DesiredState::Up, &[Event::Start]), Host::Gone, Recovery::Lost(lost)),
            (
                at("always", DesiredState::Up, &[Event::Start]),
                Host::Gone,
                Recovery::LostThenStart(lost),
            ),
            (
                at("on-failure", DesiredState::Up, &[Event::Start, Event::Pause]),
                Host::Gone,
                Recovery::LostThenStart(lost),
            ),
            (at("always", DesiredState::Down, &stopped), Host::Gone, Recovery::Start),
            (at("always", DesiredState::Up, &failed), Host::Alive, Recovery::Leave),
            (at("on-failure:0", DesiredState::Up, &failed), Host::Gone, Recovery::Keep),
            (at("unless-stopped", DesiredState::Down, &stopped), Host::Gone, Recovery::Keep),
            (at("on-failure", DesiredState::Up, &failed), Host::Gone, Recovery::Start),
            (at("no", DesiredState::Up, &failed), Host::Gone, Recovery::Keep),
            (at("always", DesiredState::Down, &[]), Host::Gone, Recovery::Keep),
        ];
        for (record, host, expected) in table {
            assert_eq!(recover(&record, host), expected, "{record:?}");
        }
    }

    proptest::proptest! {
        /// What recovery asks for is always a valid transition.
        #[test]
        fn recovery_never_asks_for_what_is_refused(
            pick in 0usize..5, alive in proptest::bool::ANY, policy in 0usize..4
        ) {
            let paths: [&[Event]; 5] = [
                &[],
                &[Event::Start],
                &[Event::Start, Event::Pause],
                &[Event::Start, Event::Exit(ExitStatus::Exited(1))],
                &[Event::Remove],
            ];
            let policy = ["no", "on-failure", "always", "unless-stopped"][policy];
            let record = at(policy, DesiredState::Up, paths[pick]);
            let host = if alive { Host::Alive } else { Host::Gone };
            let after = |record: &Record, event| record.after(event, Time::now());
            match recover(&record, host) {
                Recovery::Leave | Recovery::Keep => {}
                Recovery::Lost(event) => drop(after(&record, event).unwrap()),
                Recovery::LostThenStart(event) => {
                    after(&after(&record, event).unwrap(), Event::Start).unwrap();
                }
                Recovery::Start => drop(after(&record, Event::Start).unwrap()),
            }
        }
    }
}
