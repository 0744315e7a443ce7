//! Holds a guest to its network rate: bytes that have passed are a debt that time pays.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::control::Control;

/// Spreads bytes over time, so that no more than a rate passes.
pub(crate) struct Pace {
    control: Arc<Control>,
    debt: Mutex<Debt>,
}

/// What has passed and is not paid for yet.
#[derive(Default)]
struct Debt {
    /// The rate by which it is reckoned; another begins without debt.
    rate: u64,
    /// When all of it will have been paid for.
    free_at: Option<Instant>,
}

/// What a datagram takes besides its bytes: the headers of IPv4 and UDP. So an empty one is not free.
pub(crate) const PER_DATAGRAM: usize = 28;

/// How long to wait before looking whether the rate was changed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How many bytes may pass at once whatever the rate is: with fewer, calls would cost more than they carry.
const LEAST_AT_ONCE: usize = 64;

/// How much may pass before anybody waits.
const BURST: Duration = Duration::from_millis(25);

impl Pace {
    pub(crate) fn new(control: Arc<Control>) -> Arc<Pace> {
        Arc::new(Pace { control, debt: Mutex::default() })
    }

    /// Notes that bytes have passed.
    pub(crate) fn passed(&self, bytes: usize) {
        let Some(rate) = self.control.net_rate().bound() else { return };
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = debt.free_at.filter(|_| debt.rate == rate);
        *debt = Debt { rate, free_at: Some(owed.unwrap_or(now).max(now) + takes) };
    }

    /// When to look again whether the next bytes may pass; `None` if they may.
    pub(crate) fn until(&self) -> Option<Instant> {
        let rate = self.control.net_rate().bound()?;
        let debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let until = debt.free_at.filter(|_| debt.rate == rate)?.checked_sub(BURST)?;
        let now = Instant::now();
        (until > now).then(|| until.min(now + LOOK_AGAIN))
    }

    /// How many bytes may pass at once, so that in no second more than a twentieth above the rate does.
    pub(crate) fn at_once(&self) -> usize {
        match self.control.net_rate().bound() {
            None => usize::MAX,
            Some(rate) => {
                let bytes = rate as f64 * BURST.as_secs_f64();
                (bytes as usize).max(LEAST_AT_ONCE)
            }
        }
    }

    /// Waits until the next bytes may pass.
    pub(crate) async fn ready(&self) {
        while let Some(until) = self.until() {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The wait of one stream for its turn.
#[derive(Default)]
pub(crate) struct Turn(Option<Pin<Box<Sleep>>>);

impl Turn {
    /// Ready when the next bytes may pass; also the first ones, which others may have to pay for.
    pub(crate) fn poll(&mut self, pace: &Pace, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(wait) = &mut self.0 {
                ready!(wait.as_mut().poll(cx));
            }
            self.0 = pace.until().map(|until| Box::pin(tokio::time::sleep_until(until)));
            if self.0.is_none() {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_spec::{Limit, Limits};
    use proptest::prelude::*;

    proptest! {
        /// Statement 4.1 of the model: whatever a guest sends, and whenever, in no second does it pass its rate by
        /// more than a twentieth.
        #[test]
        fn statement_4_1_no_second_has_more_than_the_rate(
            rate in 4_000u64..50_000_000,
            sends in prop::collection::vec((1usize..200_000, 0u64..40), 1..120),
        ) {
            let events = tokio::runtime::Builder::new_current_thread()
                .enable_time().start_paused(true).build().unwrap();
            let limits = Limits { net_rate: Limit::AtMost(rate.to_string().parse().unwrap()), ..Limits::default() };
            let pace = Pace::new(Arc::new(Control::new(&limits)));
            let passed = events.block_on(async {
                let mut passed: Vec<(Instant, u64)> = Vec::new();
                for (bytes, idle) in sends {
                    tokio::time::sleep(Duration::from_millis(idle)).await;
                    let mut left = bytes;
                    while left > 0 {
                        pace.ready().await;
                        let now = left.min(pace.at_once());
                        pace.passed(now);
                        passed.push((Instant::now(), now as u64));
                        left -= now;
                    }
                }
                passed
            });
            for (number, (start, _)) in passed.iter().enumerate() {
                let second = passed[number..].iter()
                    .take_while(|(at, _)| at.duration_since(*start) < Duration::from_secs(1));
                let bytes: u64 = second.map(|(_, bytes)| bytes).sum();
                prop_assert!(bytes as f64 <= rate as f64 * 1.05 + 1.0, "{bytes} of {rate}");
            }
        }
    }
}
