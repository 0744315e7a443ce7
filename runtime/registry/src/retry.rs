//! Decides whether a failed request is tried again, and when.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

/// How long a whole pull may spend waiting between attempts, and how often one request is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub attempts: u32,
    pub longest_wait: Duration,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { attempts: 5, longest_wait: Duration::from_secs(30) }
    }
}

impl Budget {
    /// The wait before attempt number `next` (the first retry is 1), or `None` to give up.
    ///
    /// Full jitter: `random` is uniform in 0..1. What the server asks for is obeyed if it is short
    /// enough, and is a reason to give up if it is not.
    pub(crate) fn wait(self, next: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
        if next >= self.attempts {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= self.longest_wait).then_some(asked);
        }
        let ceiling = Duration::from_millis(100) * 2u32.saturating_pow(next);
        Some(ceiling.min(self.longest_wait).mul_f64(random))
    }
}

/// Whether a response says that the same request may succeed later.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// What `Retry-After` asks for, in seconds (RFC 9110, section 10.2.3).
///
/// A date is not read: a device may not know what day it is; the back-off is used instead.
pub(crate) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// A number in 0..1, good enough to spread retries.
pub(crate) fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_then_end() {
        let budget = Budget::default();
        let waits: Vec<_> = (1..=5).map(|next| budget.wait(next, None, 1.0)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits, [ms(200), ms(400), ms(800), ms(1600), None]);
    }

    #[test]
    fn a_server_that_asks_for_too_long_a_wait_is_given_up() {
        let budget = Budget::default();
        assert_eq!(budget.wait(1, Some(Duration::from_secs(2)), 0.0), Some(Duration::from_secs(2)));
        assert_eq!(budget.wait(1, Some(Duration::from_secs(3600)), 0.0), None);
    }

    #[test]
    fn only_whole_seconds_are_read_from_retry_after() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", value.parse().unwrap());
            asked_wait(&headers)
        };
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        assert_eq!(read("880.092µs"), None);
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
