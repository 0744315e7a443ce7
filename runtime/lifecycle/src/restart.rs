//! Decides whether a container that ended is started again, and after how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mote_spec::ExitStatus;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// State of a container that the operator wants: a restart policy goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    Up,
    /// It was stopped.
    Down,
}

/// When a container is started again, as docker and podman spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestartPolicy {
    #[default]
    No,
    /// After a failure, at most so often in a row.
    OnFailure(Option<u32>),
    /// Whenever it ends, and when its host starts.
    Always,
    /// The same, but not when its host starts and somebody had stopped it.
    UnlessStopped,
}

/// Why a text is not a restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a restart policy: no, on-failure[:N], always and unless-stopped are")]
pub struct RestartError(String);

impl RestartPolicy {
    /// Whether it is started again after this end, having been restarted so often in a row.
    pub fn restarts(self, how: ExitStatus, wanted: DesiredState, restarts: u32) -> bool {
        if wanted == DesiredState::Down {
            return false;
        }
        match self {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(most) => {
                !how.success() && most.is_none_or(|most| restarts < most)
            }
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        }
    }

    /// Whether it is started when its host starts, after this end of what ran before, having been
    /// restarted so often in a row.
    pub fn starts_with_host(
        self,
        how: Option<ExitStatus>,
        wanted: DesiredState,
        restarts: u32,
    ) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(_) => {
                how.is_some_and(|how| self.restarts(how, wanted, restarts))
            }
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => wanted == DesiredState::Up,
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = RestartError;

    fn from_str(text: &str) -> Result<RestartPolicy, RestartError> {
        let bad = || RestartError(text.to_owned());
        match text.split_once(':') {
            Some(("on-failure", most)) => {
                Ok(RestartPolicy::OnFailure(Some(most.parse().map_err(|_| bad())?)))
            }
            None if text == "no" => Ok(RestartPolicy::No),
            None if text == "on-failure" => Ok(RestartPolicy::OnFailure(None)),
            None if text == "always" => Ok(RestartPolicy::Always),
            None if text == "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
            Some(_) | None => Err(bad()),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartPolicy::No => f.write_str("no"),
            RestartPolicy::OnFailure(None) => f.write_str("on-failure"),
            RestartPolicy::OnFailure(Some(most)) => write!(f, "on-failure:{most}"),
            RestartPolicy::Always => f.write_str("always"),
            RestartPolicy::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl Serialize for RestartPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RestartPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RestartPolicy, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How long to wait before the next start: twice as long after every quick end, up to a cap, with
/// jitter, so that containers that fail together do not start together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(60);
    /// A container that ran for so long has recovered.
    pub(crate) const RECOVERED: Duration = Duration::from_secs(10);

    pub fn new() -> Backoff {
        Backoff { next: Backoff::FIRST }
    }

    /// The pause after a run of such a length. `jitter` is drawn from 0 to 1 by the caller.
    pub fn pause(&mut self, ran: Duration, jitter: f64) -> Duration {
        if ran >= Backoff::RECOVERED {
            self.next = Backoff::FIRST;
        }
        let pause = self.next;
        self.next = (self.next * 2).min(Backoff::MOST);
        // Between three quarters and all of it.
        pause.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0))
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_print_as_they_parse() {
        for text in ["no", "on-failure", "on-failure:5", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for bad in ["", "No", "on-failure:", "on-failure:-1", "always:3", "never"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn who_is_started_again() {
        let (ok, failed) = (ExitStatus::Exited(0), ExitStatus::Trapped);
        let thrice = RestartPolicy::OnFailure(Some(3));
        let table = [
            (RestartPolicy::No, failed, DesiredState::Up, 0, false),
            (thrice, ok, DesiredState::Up, 0, false),
            (thrice, failed, DesiredState::Up, 2, true),
            (thrice, failed, DesiredState::Up, 3, false),
            (RestartPolicy::OnFailure(None), failed, DesiredState::Up, 1_000, true),
            (RestartPolicy::Always, ok, DesiredState::Up, 7, true),
            (RestartPolicy::Always, ok, DesiredState::Down, 0, false),
            (RestartPolicy::UnlessStopped, failed, DesiredState::Down, 0, false),
        ];
        for (policy, how, wanted, restarts, expected) in table {
            assert_eq!(policy.restarts(how, wanted, restarts), expected, "{policy} {how}");
        }
    }

    #[test]
    fn who_starts_with_the_host() {
        let failed = Some(ExitStatus::Killed);
        assert!(RestartPolicy::Always.starts_with_host(None, DesiredState::Down, 0));
        assert!(!RestartPolicy::UnlessStopped.starts_with_host(failed, DesiredState::Down, 0));
        assert!(RestartPolicy::UnlessStopped.starts_with_host(failed, DesiredState::Up, 0));
        assert!(RestartPolicy::OnFailure(None).starts_with_host(failed, DesiredState::Up, 9));
        let done = Some(ExitStatus::Exited(0));
        assert!(!RestartPolicy::OnFailure(None).starts_with_host(done, DesiredState::Up, 0));
        assert!(!RestartPolicy::OnFailure(Some(2)).starts_with_host(failed, DesiredState::Up, 2));
        assert!(!RestartPolicy::No.starts_with_host(failed, DesiredState::Up, 0));
    }

    #[test]
    fn pauses_grow_to_a_cap_and_shrink_after_a_long_run() {
        let mut backoff = Backoff::new();
        let quick = Duration::from_millis(1);
        let pauses: Vec<u64> =
            (0..12).map(|_| backoff.pause(quick, 1.0).as_millis() as u64).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(backoff.pause(Duration::from_secs(11), 0.0), Duration::from_millis(75));
    }
}
