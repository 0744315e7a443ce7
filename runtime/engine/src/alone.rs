//! Runs the only guest of a process on a thread of its own, in code that looks at nothing while it computes.
//!
//! A signal interrupts it at every tick (`tick`). Where that finds the guest in the guest's own code, which holds no lock
//! of the host's and leaves nothing of it half done, the handler keeps it there: while it is paused, until it has
//! earned what it computed, or for good once nobody wants it any more. One that is kept for good leaves its thread,
//! and all that it has open, to the end of the process, which is to follow. In a host call nobody is kept: it ends,
//! or waits, by itself.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::control::{Control, wait_for_change, wake_all};
use crate::gauge::Gauge;
use crate::meter::{GivesWay, Metered, Turn, thread_time};
use crate::tick::Preempt;

/// How soon a guest is looked for again that is to be kept, and was in a host call.
const SOON: Duration = Duration::from_micros(200);
/// How soon at the latest.
const LONGEST: Duration = Duration::from_millis(20);
/// How long a guest that nobody wants any more may take to be out of a host call.
const PATIENCE: Duration = Duration::from_millis(100);

/// The run of the only guest of this process. Once it is dropped the guest does nothing more, and the process is to
/// end. One that is in a host call then may get as far as the next look after it.
pub(crate) struct Alone<T> {
    ended: oneshot::Receiver<Ended<T>>,
    end: Arc<End>,
    control: Arc<Control>,
}

/// How a guest's thread ended: with a panic, without a guest, with one that nobody wanted, or with its result.
type Ended<T> = std::thread::Result<io::Result<Option<T>>>;

impl<T: Send + 'static> Alone<T> {
    /// Starts a guest whose compiled code is in this range, in the event loop of the caller.
    ///
    /// # Errors
    /// Fails if there is no thread or no timer to be had.
    pub(crate) fn start<F>(
        guest: F,
        code: Range<*const u8>,
        gauge: Arc<Gauge>,
        control: Arc<Control>,
    ) -> io::Result<Alone<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (events, end) = (Handle::current(), Arc::new(End::default()));
        let (tell, ended) = oneshot::channel();
        let code = code.start.addr()..code.end.addr();
        let thread = std::thread::Builder::new().name("mote-guest".into());
        let (held_by, its_end, told) = (Arc::clone(&control), Arc::clone(&end), Arc::clone(&end));
        let see_to_end = move || {
            let turn = Arc::new(Mutex::new(Turn::new(held_by.cpu_share())));
            let seat = Seat {
                code,
                gauge: Arc::clone(&gauge),
                control: Arc::clone(&held_by),
                turn: Arc::clone(&turn),
                end: Arc::clone(&its_end),
                pause: AtomicU64::new(0),
                looked_at: AtomicU64::new(0),
            };
            let metered = Metered::new(guest, GivesWay::Kept(Box::new(seat)), gauge, held_by, turn);
            events.block_on(async {
                tokio::select! {
                    biased;
                    () = its_end.told.notified() => Ok(None),
                    done = metered => done.map(Some),
                }
            })
        };
        thread.spawn(move || {
            // All that it has, the event loop's files among it, goes before anybody hears of its end.
            let done = catch_unwind(AssertUnwindSafe(see_to_end));
            told.is_quiet();
            // Nobody may wait for it any more.
            let _ = tell.send(done);
        })?;
        Ok(Alone { ended, end, control })
    }
}

impl<T> Future for Alone<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let lost = || io::Error::other("its thread is lost");
        Poll::Ready(match ready!(Pin::new(&mut self.ended).poll(cx)) {
            Ok(Ok(done)) => done.and_then(|done| done.ok_or_else(lost)),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(lost()),
        })
    }
}

impl<T> Drop for Alone<T> {
    fn drop(&mut self) {
        self.end.is_unwanted.store(true, Ordering::SeqCst);
        self.end.told.notify_one();
        self.control.wake();
        self.end.wait();
    }
}

/// How a guest and whoever no longer wants it come apart.
#[derive(Default)]
struct End {
    is_unwanted: AtomicBool,
    told: Notify,
    /// Not 0 once the guest does nothing more.
    quiet: AtomicU32,
}

impl End {
    fn is_quiet(&self) {
        self.quiet.store(1, Ordering::SeqCst);
        wake_all(&self.quiet);
    }

    /// Waits until the guest does nothing more, within reason.
    fn wait(&self) {
        let start = Instant::now();
        while self.quiet.load(Ordering::SeqCst) == 0 {
            let Some(left) = PATIENCE.checked_sub(start.elapsed()) else { return };
            wait_for_change(&self.quiet, 0, Some(left));
        }
    }
}

/// Where the handler finds what the thread that it interrupts is to be held to.
struct Seat {
    code: Range<usize>,
    gauge: Arc<Gauge>,
    control: Arc<Control>,
    turn: Arc<Mutex<Turn>>,
    end: Arc<End>,
    /// After how long the next look was to be, in nanoseconds, and the thread's CPU time at the last one.
    pause: AtomicU64,
    looked_at: AtomicU64,
}

impl Preempt for Seat {
    fn look_up(&self, at: usize) -> Duration {
        // Nobody but this thread has the turn, and not while it polls.
        let Ok(mut turn) = self.turn.try_lock() else { return SOON };
        turn.settle(&self.gauge);
        let again = match self.code.contains(&at) {
            true => {
                self.keep(&mut turn);
                turn.tick()
            }
            false => self.next_look(&turn),
        };
        turn.begin();
        self.pause.store(again.as_nanos() as u64, Ordering::SeqCst);
        again
    }
}

impl Seat {
    /// When to look again for a guest that is in a host call: sooner, if it is to be kept; less and less often, while
    /// it waits there and nothing is done.
    fn next_look(&self, turn: &Turn) -> Duration {
        let now = thread_time().as_nanos() as u64;
        let spent = now.saturating_sub(self.looked_at.swap(now, Ordering::SeqCst));
        let pause = self.pause.load(Ordering::SeqCst);
        let is_to_be_kept = self.end.is_unwanted.load(Ordering::SeqCst)
            || self.control.is_paused()
            || turn.debt(Instant::now()).is_some();
        match spent < pause / 8 {
            true => Duration::from_nanos(pause * 2).min(LONGEST),
            false if is_to_be_kept => SOON,
            false => turn.tick(),
        }
    }

    /// Returns when the guest may go on.
    fn keep(&self, turn: &mut Turn) {
        loop {
            let seen = self.control.turns();
            if self.end.is_unwanted.load(Ordering::SeqCst) {
                self.end.is_quiet();
                loop {
                    wait_for_change(&self.end.quiet, 1, None);
                }
            }
            turn.adopt(self.control.cpu_share());
            let rest = turn.debt(Instant::now());
            match (self.control.is_paused(), rest) {
                (true, _) => self.control.wait_for_turn(seen, None),
                (false, Some(rest)) => self.control.wait_for_turn(seen, Some(rest)),
                (false, None) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checks;
    use crate::control::tests::{SPIN, drive, guest_that_checks, until};
    use mote_spec::{Bytes, ExitStatus, Limit, Limits};
    use std::collections::HashSet;
    use std::ffi::OsString;

    fn guest_of(wat: &str) -> (crate::Engine, crate::Module, mote_spec::Policy) {
        guest_that_checks(Checks::Nothing, wat, Bytes::mib(64))
    }

    fn switches(guest: &mote_spec::Policy) -> (Arc<Control>, Arc<Gauge>) {
        (Arc::new(Control::new(guest.limits())), Arc::new(Gauge::default()))
    }

    /// These tests look at threads, and leave some behind.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// The threads that there were before a test.
    struct Before(HashSet<OsString>);

    impl Before {
        fn now() -> Before {
            Before(threads().map(|thread| thread.file_name()).collect())
        }

        /// Whether the guest's thread waits for something (proc_pid_stat(5)); none if there is no such thread.
        fn is_kept(&self) -> Option<bool> {
            let new = threads().filter(|thread| !self.0.contains(&thread.file_name()));
            let stats = new.map(|thread| std::fs::read_to_string(thread.path().join("stat")));
            let stat = stats.flatten().find(|stat| stat.contains("(mote-guest)"))?;
            Some(stat.split(") ").nth(1).unwrap().starts_with('S'))
        }
    }

    fn threads() -> impl Iterator<Item = std::fs::DirEntry> {
        std::fs::read_dir("/proc/self/task").unwrap().flatten()
    }

    /// Whether a number stays the same for several ticks.
    async fn stays_the_same(number: impl Fn() -> u64) -> bool {
        let (before, start) = (number(), Instant::now());
        until(|| start.elapsed() > Duration::from_millis(20)).await;
        number() == before
    }

    #[tokio::test]
    async fn a_guest_that_looks_at_nothing_is_paused_and_goes_on_where_it_was() {
        let _turn = ONE_AT_A_TIME.lock().await;
        let (before, guest) = (Before::now(), guest_of(SPIN));
        let (control, gauge) = switches(&guest.2);
        let cpu = || gauge.cpu_nanos.load(Ordering::Relaxed);
        let driver = async {
            until(|| cpu() > 0).await;
            control.pause();
            until(|| before.is_kept() == Some(true)).await;
            assert!(stays_the_same(cpu).await);
            let used = cpu();
            control.unpause();
            until(|| cpu() > used).await;
        };
        assert_eq!(drive(guest, &control, &gauge, driver).await, None);
    }

    #[tokio::test]
    async fn one_that_nobody_wants_any_more_does_nothing_more() {
        let _turn = ONE_AT_A_TIME.lock().await;
        let (before, guest) = (Before::now(), guest_of(SPIN));
        let (control, gauge) = switches(&guest.2);
        let cpu = || gauge.cpu_nanos.load(Ordering::Relaxed);
        assert_eq!(drive(guest, &control, &gauge, until(|| cpu() > 0)).await, None);
        // It was waited for.
        assert!(stays_the_same(cpu).await);
        assert_eq!(before.is_kept(), Some(true));
    }

    #[tokio::test]
    async fn one_that_is_paused_can_go_unwanted() {
        let _turn = ONE_AT_A_TIME.lock().await;
        let (before, guest) = (Before::now(), guest_of(SPIN));
        let (control, gauge) = switches(&guest.2);
        control.pause();
        let driver = until(|| before.is_kept() == Some(true));
        assert_eq!(drive(guest, &control, &gauge, driver).await, None);
        // It had not begun, and has given back all.
        until(|| before.is_kept().is_none()).await;
    }

    #[tokio::test]
    async fn it_ends_by_itself() {
        let ends = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
        let guest = guest_of(ends);
        let (control, gauge) = switches(&guest.2);
        let ended = drive(guest, &control, &gauge, std::future::pending()).await;
        assert_eq!(ended, Some(ExitStatus::Exited(0)));
    }

    #[tokio::test]
    async fn a_share_that_comes_late_holds_it() {
        let guest = guest_of(SPIN);
        let limits = *guest.2.limits();
        let (control, gauge) = switches(&guest.2);
        let cpu = || gauge.cpu_nanos.load(Ordering::Relaxed);
        let driver = async {
            until(|| cpu() > 0).await;
            control.apply(&Limits { cpus: Limit::AtMost("0.1".parse().unwrap()), ..limits });
            // What it computed before it was told is none of the share's.
            let told = cpu();
            until(|| cpu() > told).await;
            let (before, start) = (cpu(), Instant::now());
            until(|| cpu() > before + 20_000_000).await;
            assert!(start.elapsed() > Duration::from_millis(150), "{:?}", start.elapsed());
            // It rests by its old share no longer when it has a new one.
            control.apply(&Limits { cpus: Limit::AtMost("0.01".parse().unwrap()), ..limits });
            let low = cpu();
            until(|| cpu() > low).await;
            control.apply(&limits);
            let (before, start) = (cpu(), Instant::now());
            until(|| cpu() > before + 100_000_000).await;
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        };
        assert_eq!(drive(guest, &control, &gauge, driver).await, None);
    }

    #[tokio::test]
    async fn one_that_is_in_calls_of_the_engine_is_counted_all_the_same() {
        let fill = r#"(module (memory (export "memory") 900) (func (export "_start")
            (loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 58000000)) (br 0))))"#;
        let guest = guest_of(fill);
        let (control, gauge) = switches(&guest.2);
        let driver = until(|| gauge.cpu_nanos.load(Ordering::Relaxed) > 30_000_000);
        assert_eq!(drive(guest, &control, &gauge, driver).await, None);
    }

    #[tokio::test]
    async fn an_event_loop_goes_on_beside_it() {
        let guest = guest_of(SPIN);
        let (control, gauge) = switches(&guest.2);
        let cpu = || gauge.cpu_nanos.load(Ordering::Relaxed);
        let driver = async {
            until(|| cpu() > 0).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(drive(guest, &control, &gauge, driver).await, None);
    }
}
