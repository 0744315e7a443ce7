//! Meters the time that a guest is polled, and holds it to its CPU share by not polling it.
//!
//! A guest that computes gives way at every tick of its engine's epoch. The ticks come from one
//! thread for all engines of the process, which sleeps while no guest runs: an idle device is not
//! woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use mote_spec::Limit;
use rustix::time::{ClockId, clock_gettime};

use crate::control::Control;
use crate::gauge::Gauge;

/// How long a guest may compute before it gives way.
const TICK: Duration = Duration::from_millis(5);
/// The span over which a share is held.
const PERIOD: Duration = Duration::from_millis(100);

/// Has an event loop look at timers, files and new tasks after every poll, and not after some sixty: a guest
/// that computes has a whole tick in each.
pub fn look_often(events: &mut tokio::runtime::Builder) -> &mut tokio::runtime::Builder {
    events.event_interval(1).global_queue_interval(1)
}

/// Polls a guest, counts the time, and lets it rest when its share is used up.
pub(crate) struct Metered<F> {
    guest: Pin<Box<F>>,
    engine: wasmtime::Engine,
    gauge: Arc<Gauge>,
    control: Arc<Control>,
    /// The share that `used` and `rest` were reckoned by.
    share: Limit<f64>,
    period_start: Instant,
    used: Duration,
    rest: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<F: Future> Metered<F> {
    pub(crate) fn new(
        guest: F,
        engine: &wasmtime::Engine,
        gauge: Arc<Gauge>,
        control: Arc<Control>,
    ) -> Self {
        Metered {
            guest: Box::pin(guest),
            engine: engine.clone(),
            gauge,
            share: control.cpu_share(),
            control,
            period_start: Instant::now(),
            used: Duration::ZERO,
            rest: None,
        }
    }

    /// Begins to reckon anew when the share was changed: nobody owes by a share that is not his.
    fn adopt_share(&mut self) {
        let share = self.control.cpu_share();
        if share != self.share {
            self.share = share;
            (self.used, self.period_start, self.rest) = (Duration::ZERO, Instant::now(), None);
        }
    }

    /// How long to rest before the guest may run again, if at all.
    ///
    /// What was used beyond the share is carried over, so that the share holds over time.
    fn debt(&mut self, now: Instant) -> Option<Duration> {
        let fraction = self.share.bound()?;
        let elapsed = now - self.period_start;
        if elapsed >= PERIOD {
            let earned = elapsed.mul_f64(fraction);
            self.used = self.used.saturating_sub(earned);
            self.period_start = now;
        }
        let allowed = PERIOD.mul_f64(fraction);
        let over = self.used.checked_sub(allowed).filter(|over| !over.is_zero())?;
        let earns_back = over.div_f64(fraction);
        Some(earns_back.max(PERIOD.saturating_sub(now - self.period_start)))
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        loop {
            ready!(this.control.poll_running(cx));
            this.adopt_share();
            if let Some(rest) = &mut this.rest {
                if rest.as_mut().poll(cx).is_pending() {
                    this.control.rests(cx);
                    // It may have been changed before the task was noted.
                    if this.control.cpu_share() != this.share {
                        continue;
                    }
                    return Poll::Pending;
                }
                this.rest = None;
            }
            if let Some(debt) = this.debt(Instant::now()) {
                this.rest = Some(Box::pin(tokio::time::sleep(debt)));
                continue;
            }
            let before = thread_time();
            let ticking = Ticker::run(&this.engine);
            let polled = this.guest.as_mut().poll(cx);
            drop(ticking);
            let spent = thread_time().saturating_sub(before);
            if this.share != Limit::Unlimited {
                this.used += spent;
            }
            this.gauge.cpu_nanos.fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
            return polled;
        }
    }
}

/// The CPU time of this thread.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// What makes engines' epochs tick.
struct Ticker {
    state: Mutex<Ticked>,
    wake: Condvar,
    next: AtomicU64,
    /// How often it has ticked.
    #[cfg(test)]
    ticks: AtomicU64,
}

#[derive(Default)]
struct Ticked {
    /// The engines whose guests run code right now.
    running: Vec<(u64, wasmtime::Engine)>,
    /// Whether the ticker sleeps until it is woken: none was running at its last tick.
    asleep: bool,
}

/// Keeps an engine's epoch ticking until it is dropped.
struct Ticking(u64);

impl Ticker {
    fn get() -> &'static Ticker {
        static TICKER: OnceLock<Ticker> = OnceLock::new();
        static THREAD: OnceLock<()> = OnceLock::new();
        let ticker = TICKER.get_or_init(|| Ticker {
            state: Mutex::default(),
            wake: Condvar::new(),
            next: AtomicU64::new(0),
            #[cfg(test)]
            ticks: AtomicU64::new(0),
        });
        THREAD.get_or_init(|| {
            std::thread::Builder::new()
                .name("mote-epoch".into())
                .stack_size(64 << 10)
                .spawn(|| ticker.tick_forever())
                .expect("a process can start one thread");
        });
        ticker
    }

    fn run(engine: &wasmtime::Engine) -> Ticking {
        let ticker = Ticker::get();
        let id = ticker.next.fetch_add(1, Ordering::Relaxed);
        let mut state = ticker.state();
        state.running.push((id, engine.clone()));
        // One that counts its time goes on; were it woken, it would tick too early.
        if std::mem::take(&mut state.asleep) {
            ticker.wake.notify_one();
        }
        Ticking(id)
    }

    fn state(&self) -> MutexGuard<'_, Ticked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick_forever(&self) {
        loop {
            let mut state = self.state();
            state.asleep = state.running.is_empty();
            let awake = self.wake.wait_while(state, |state| state.asleep);
            drop(awake.unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(TICK);
            let state = self.state();
            for (_, engine) in &state.running {
                engine.increment_epoch();
            }
            #[cfg(test)]
            self.ticks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        Ticker::get().state().running.retain(|(id, _)| *id != self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_come_and_go_do_not_make_it_tick_faster() {
        let engine = wasmtime::Engine::default();
        let ticks = || Ticker::get().ticks.load(Ordering::Relaxed);
        let (start, before) = (Instant::now(), ticks());
        // Nobody else runs guests in this process.
        while ticks() < before + 10 {
            drop(Ticker::run(&engine));
        }
        // One may have been under way.
        assert!(start.elapsed() >= 9 * TICK, "{:?}", start.elapsed());
        // With nobody running it falls asleep.
        while !Ticker::get().state().asleep {
            std::thread::yield_now();
        }
        let asleep_at = ticks();
        drop(Ticker::run(&engine));
        while ticks() == asleep_at {
            std::thread::yield_now();
        }
    }
}
