//! Keeps the search for deleted files from holding up a guest's neighbours.
//!
//! A guest at its storage limit has the host walk over all of its files for each write, to see whether it deleted
//! some. Where guests share threads the walk takes place while another thread serves them; the guest itself
//! waits the longer the longer its last walk took.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// How many times as long as a walk its guest waits for the next one.
const REST: u32 = 20;
/// How long it waits at most.
const MAX_REST: Duration = Duration::from_secs(1);
/// How many guests of a process wait or walk at once; each has a thread meanwhile.
const MAX_WAITING: usize = 64;
/// How many of them walk.
const MAX_WALKS: usize = 8;

static WAITING: Semaphore = Semaphore::const_new(MAX_WAITING);
static WALKS: Semaphore = Semaphore::const_new(MAX_WALKS);

/// The walks of one guest.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// When the last one ended, and how long it took.
    last: Mutex<Option<(Instant, Duration)>>,
}

impl Looks {
    /// Looks, where its neighbours are not kept waiting by it; `None` too if too many others look already.
    pub(crate) fn look<T>(&self, work: impl FnOnce() -> Option<T>) -> Option<T> {
        let events = match Handle::try_current() {
            Ok(events) if events.runtime_flavor() == RuntimeFlavor::MultiThread => events,
            _ => return work(),
        };
        let _place = WAITING.try_acquire().ok()?;
        tokio::task::block_in_place(|| {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            std::thread::sleep(rest(*last, Instant::now()));
            // Others rest while this one walks, so that guests at their limit keep nobody else from theirs.
            let _turn = events.block_on(WALKS.acquire()).ok()?;
            let began = Instant::now();
            let found = work();
            *last = Some((Instant::now(), began.elapsed()));
            found
        })
    }
}

/// How long to wait before the next walk.
fn rest(last: Option<(Instant, Duration)>, now: Instant) -> Duration {
    let Some((ended, took)) = last else { return Duration::ZERO };
    (took * REST).min(MAX_REST).saturating_sub(now.duration_since(ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_a_walk_took_the_later_is_the_next() {
        let (now, milli) = (Instant::now(), Duration::from_millis(1));
        assert_eq!(rest(None, now), Duration::ZERO);
        assert_eq!(rest(Some((now, milli)), now), 20 * milli);
        assert_eq!(rest(Some((now, milli)), now + 15 * milli), 5 * milli);
        assert_eq!(rest(Some((now, 300 * milli)), now), MAX_REST, "at most once a second");
        assert_eq!(rest(Some((now, milli)), now + MAX_REST), Duration::ZERO);
    }

    #[test]
    fn too_many_walks_at_once_find_nothing() {
        let events = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let looked = events.block_on(async {
            tokio::spawn(async {
                let _all = WAITING.acquire_many(MAX_WAITING as u32).await.unwrap();
                Looks::default().look(|| Some(()))
            })
            .await
        });
        assert_eq!(looked.unwrap(), None);
        assert_eq!(Looks::default().look(|| Some(())), Some(()), "alone nobody is kept waiting");
    }
}
