//! Decides whether a container is healthy, from what its probes found.
//!
//! ```text
//! Starting --success--> Healthy <--success-- Unhealthy
//!    |                     |                     ^
//!    +--- `retries` failures in a row -----------+     (during the start period none counts)
//! ```
//!
//! Pure: no clock, no probe. The daemon asks and tells what it heard.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// How a container's health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Milliseconds between two probes.
    pub interval_ms: u64,
    /// Milliseconds that one may take.
    pub timeout_ms: u64,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
    /// Milliseconds after the start in which failures do not count.
    pub start_period_ms: u64,
    /// Milliseconds between two probes in that time, until the first success.
    #[serde(default = "usual_start_interval")]
    pub start_interval_ms: u64,
    pub on_failure: OnFailure,
}

/// Docker's.
fn usual_start_interval() -> u64 {
    5_000
}

/// What is asked of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A program or a function of the image, as `exec` runs it: healthy if it ends with 0.
    Exec(Vec<String>),
    /// A GET of this address: healthy if the answer is a success or a redirection.
    Http(String),
}

/// What is done about a container that turns unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    #[default]
    None,
    Kill,
    Restart,
    Stop,
}

impl std::str::FromStr for OnFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<OnFailure, String> {
        match text {
            "none" => Ok(OnFailure::None),
            "kill" => Ok(OnFailure::Kill),
            "restart" => Ok(OnFailure::Restart),
            "stop" => Ok(OnFailure::Stop),
            other => Err(format!(
                "`{other}` is not what to do on failure: none, kill, restart and stop are"
            )),
        }
    }
}

impl std::fmt::Display for OnFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OnFailure::None => "none",
            OnFailure::Kill => "kill",
            OnFailure::Restart => "restart",
            OnFailure::Stop => "stop",
        })
    }
}

impl HealthCheck {
    /// Docker's intervals.
    pub fn new(probe: Probe) -> HealthCheck {
        HealthCheck {
            probe,
            interval_ms: 30_000,
            timeout_ms: 30_000,
            retries: 3,
            start_period_ms: 0,
            start_interval_ms: usual_start_interval(),
            on_failure: OnFailure::None,
        }
    }

    /// How long until the next probe of a run that began so long ago.
    pub fn pause(&self, health: HealthStatus, ran: Duration) -> Duration {
        let early = ran < Duration::from_millis(self.start_period_ms);
        let pause = match health {
            HealthStatus::Starting if early => self.start_interval_ms.min(self.interval_ms),
            HealthStatus::Starting | HealthStatus::Healthy | HealthStatus::Unhealthy => {
                self.interval_ms
            }
        };
        // Never so often that probing is all there is.
        Duration::from_millis(pause.max(100))
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.max(1))
    }
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// No probe has told yet.
    Starting,
    Healthy,
    Unhealthy,
}

impl std::fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        })
    }
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    pub start: Time,
    pub end: Time,
    /// 0 for success.
    pub code: i32,
    pub output: String,
}

/// The health of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing: u32,
    /// The last probes, the oldest first.
    pub log: Vec<Probed>,
}

/// How many probes are remembered (docker's figure).
const REMEMBERED: usize = 5;

impl Default for Health {
    fn default() -> Health {
        Health { status: HealthStatus::Starting, failing: 0, log: Vec::new() }
    }
}

impl Health {
    /// The health after another probe of a run that began at `started`.
    pub fn after(&self, check: &HealthCheck, started: Time, probed: Probed) -> Health {
        let starting = self.status == HealthStatus::Starting;
        let early = probed.end.since(started) < Duration::from_millis(check.start_period_ms);
        let (status, failing) = match probed.code {
            0 => (HealthStatus::Healthy, 0),
            _ if starting && early => (HealthStatus::Starting, 0),
            _ if self.failing + 1 >= check.retries.max(1) => {
                (HealthStatus::Unhealthy, self.failing + 1)
            }
            _ => (self.status, self.failing + 1),
        };
        let mut log = self.log.clone();
        log.push(probed);
        let over = log.len().saturating_sub(REMEMBERED);
        log.drain(..over);
        Health { status, failing, log }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(at_ms: u64, code: i32) -> Probed {
        let at = Time::at_millis(at_ms);
        Probed { start: at, end: at, code, output: String::new() }
    }

    fn after(check: &HealthCheck, codes: &[(u64, i32)]) -> Health {
        let start = Health::default();
        codes.iter().fold(start, |health, (at, code)| {
            health.after(check, Time::at_millis(0), probed(*at, *code))
        })
    }

    #[test]
    fn retries_failures_in_a_row_make_it_unhealthy_and_one_success_heals() {
        let check = HealthCheck::new(Probe::Exec(vec!["check".into()]));
        assert_eq!(after(&check, &[]).status, HealthStatus::Starting);
        assert_eq!(after(&check, &[(1, 1), (2, 1)]).status, HealthStatus::Starting);
        assert_eq!(after(&check, &[(1, 1), (2, 1), (3, 1)]).status, HealthStatus::Unhealthy);
        assert_eq!(after(&check, &[(1, 0), (2, 1), (3, 1)]).status, HealthStatus::Healthy);
        assert_eq!(
            after(&check, &[(1, 1), (2, 1), (3, 0), (4, 1), (5, 1)]).status,
            HealthStatus::Healthy
        );
        let healed = after(&check, &[(1, 1), (2, 1), (3, 1), (4, 0)]);
        assert_eq!((healed.status, healed.failing), (HealthStatus::Healthy, 0));
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_a_success() {
        let check = HealthCheck {
            start_period_ms: 1_000,
            retries: 1,
            ..HealthCheck::new(Probe::Http("http://127.0.0.1/".into()))
        };
        assert_eq!(after(&check, &[(10, 1), (20, 1)]).status, HealthStatus::Starting);
        assert_eq!(after(&check, &[(10, 1), (1_000, 1)]).status, HealthStatus::Unhealthy);
        assert_eq!(after(&check, &[(10, 0), (20, 1)]).status, HealthStatus::Unhealthy);
    }

    #[test]
    fn a_container_that_starts_is_probed_more_often() {
        let check = HealthCheck {
            start_period_ms: 10_000,
            start_interval_ms: 1_000,
            ..HealthCheck::new(Probe::Exec(Vec::new()))
        };
        let pause = |health, ran| check.pause(health, Duration::from_secs(ran)).as_secs();
        assert_eq!(pause(HealthStatus::Starting, 5), 1);
        assert_eq!(pause(HealthStatus::Starting, 10), 30);
        assert_eq!(pause(HealthStatus::Healthy, 5), 30);
    }

    #[test]
    fn only_the_last_probes_are_remembered() {
        let check = HealthCheck::new(Probe::Exec(Vec::new()));
        let many: Vec<(u64, i32)> = (0..20).map(|at| (at, 0)).collect();
        let log = after(&check, &many).log;
        assert_eq!(log.iter().map(|one| one.end).next(), Some(Time::at_millis(15)));
        assert_eq!(log.len(), 5);
    }
}
