//! Turns at the compiler: how many programs are compiled at once.
//!
//! Compilers take their time from the guests, so one works at a time. A program that takes longer than a moment
//! no longer counts: small programs pass it, and nobody who has made one large program holds up all others.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mote_engine::Wanted;

/// How long a compilation keeps the next one waiting.
const YOUNG: Duration = Duration::from_secs(2);
/// How many compilations there are at once, whatever their age.
const MAX_COMPILERS: usize = 4;
/// How often a client that waits for its turn is asked whether it is still there.
const WANTED_INTERVAL: Duration = Duration::from_millis(200);

/// The compilations that are under way, by the moment of their start.
#[derive(Default)]
pub(crate) struct Turns {
    running: Mutex<Vec<Instant>>,
    changed: Condvar,
}

/// A turn at the compiler, until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    begun: Instant,
}

impl Turns {
    /// Waits for a turn; `None` if nobody wants it any more.
    pub(crate) fn take(&self, wanted: &Wanted) -> Option<Turn<'_>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while wanted.is_wanted() {
            let now = Instant::now();
            if may_start(&running, now) {
                running.push(now);
                return Some(Turn { turns: self, begun: now });
            }
            let waited = self.changed.wait_timeout(running, WANTED_INTERVAL);
            running = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut running = self.turns.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = running.iter().position(|begun| *begun == self.begun) {
            running.swap_remove(own);
        }
        self.turns.changed.notify_all();
    }
}

/// Whether another compilation may start beside those that began at these moments.
fn may_start(running: &[Instant], now: Instant) -> bool {
    let is_old = |begun: &Instant| now.duration_since(*begun) >= YOUNG;
    running.len() < MAX_COMPILERS && running.iter().all(is_old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_engine::Waiting;

    #[test]
    fn small_programs_pass_large_ones() {
        let start = Instant::now();
        let later = start + YOUNG;
        assert!(may_start(&[], start));
        assert!(!may_start(&[start], start + YOUNG / 2), "one at a time");
        assert!(may_start(&[start], later), "that takes its time");
        assert!(!may_start(&[start, later], later), "and one of the small ones at a time");
        assert!(!may_start(&[start; MAX_COMPILERS], later));
    }

    #[test]
    fn a_turn_ends_when_it_is_dropped() {
        let turns = Turns::default();
        drop(turns.take(&Wanted::ALWAYS).unwrap());
        assert!(turns.take(&Wanted::ALWAYS).is_some());
    }

    #[test]
    fn a_client_that_goes_gives_its_turn_up() {
        let turns = Turns::default();
        let _first = turns.take(&Wanted::ALWAYS).unwrap();
        let client = Waiting::new();
        let wanted = client.wanted();
        drop(client);
        assert!(turns.take(&wanted).is_none());
    }
}
