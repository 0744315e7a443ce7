//! Turns at the compiler: how many programs are compiled at once.
//!
//! Compilers take their time from the guests, so one works at a time. A program that takes longer than a moment
//! no longer counts: small programs pass it, and nobody who has made one large program holds up all others.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mote_engine::Wanted;
use mote_spec::Digest;

/// How long a compilation keeps the next one waiting.
const YOUNG: Duration = Duration::from_secs(2);
/// How many compilations there are at once, whatever their age.
const MAX_COMPILERS: usize = 4;
/// How often a client that waits for its turn is asked whether it is still there.
const WANTED_INTERVAL: Duration = Duration::from_millis(200);

/// The compilations that are under way.
#[derive(Default)]
pub(crate) struct Turns {
    running: Mutex<Vec<Running>>,
    changed: Condvar,
}

/// A compilation: of what, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    program: Digest,
    begun: Instant,
}

/// A turn at the compiler, until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    own: Running,
}

impl Turns {
    /// Waits for a turn; `None` if nobody wants it any more. Clients of one program have one turn, and the others of
    /// them none: its code is there when they get theirs.
    pub(crate) fn take(&self, program: &Digest, wanted: &Wanted) -> Option<Turn<'_>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while wanted.is_wanted() {
            let now = Instant::now();
            if may_start(&running, program, now) {
                let own = Running { program: program.clone(), begun: now };
                running.push(own.clone());
                return Some(Turn { turns: self, own });
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
        if let Some(own) = running.iter().position(|other| *other == self.own) {
            running.swap_remove(own);
        }
        self.turns.changed.notify_all();
    }
}

/// Returns true if a program's compilation may start beside those that run.
fn may_start(running: &[Running], program: &Digest, now: Instant) -> bool {
    let lets_pass =
        |other: &Running| other.program != *program && now.duration_since(other.begun) >= YOUNG;
    running.len() < MAX_COMPILERS && running.iter().all(lets_pass)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_engine::Waiting;

    fn digest(byte: u8) -> Digest {
        format!("sha256:{}", format!("{byte:02x}").repeat(32)).parse().unwrap()
    }

    #[test]
    fn small_programs_pass_large_ones() {
        let begun = Instant::now();
        let later = begun + YOUNG;
        let (large, small) = (digest(1), digest(2));
        let one = |begun| Running { program: large.clone(), begun };
        assert!(may_start(&[], &small, begun));
        assert!(!may_start(&[one(begun)], &small, begun + YOUNG / 2), "one at a time");
        assert!(may_start(&[one(begun)], &small, later), "that takes its time");
        assert!(!may_start(&[one(begun), one(later)], &small, later), "and one small one");
        assert!(!may_start(&vec![one(begun); MAX_COMPILERS], &small, later));
    }

    #[test]
    fn clients_of_one_program_have_one_turn() {
        let begun = Instant::now();
        let running = [Running { program: digest(1), begun }];
        assert!(!may_start(&running, &digest(1), begun + 10 * YOUNG));
        assert!(may_start(&running, &digest(2), begun + 10 * YOUNG));
    }

    #[test]
    fn a_turn_ends_when_it_is_dropped() {
        let turns = Turns::default();
        drop(turns.take(&digest(1), &Wanted::ALWAYS).unwrap());
        assert!(turns.take(&digest(1), &Wanted::ALWAYS).is_some());
    }

    #[test]
    fn a_client_that_goes_gives_its_turn_up() {
        let turns = Turns::default();
        let _first = turns.take(&digest(1), &Wanted::ALWAYS).unwrap();
        let client = Waiting::new();
        let wanted = client.wanted();
        drop(client);
        assert!(turns.take(&digest(2), &wanted).is_none());
    }
}
