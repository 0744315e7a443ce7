//! What can be changed about a guest while it runs: whether it runs at all, and some of its limits.
//!
//! Shared between whoever drives a container and the guest's own task. Pausing costs nothing while it
//! lasts: the guest is not polled, and nobody waits on a clock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mote_spec::{Bytes, CpuShare, Limit, Limits, Rate};
use rustix::thread::futex;
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// The switches of one running guest.
#[derive(Debug)]
pub struct Control {
    /// Told when anything is switched: the guest may be in another process.
    told: Notify,
    /// Counts what was switched, for a thread that is kept.
    turns: AtomicU32,
    paused: AtomicBool,
    /// The guest's task, while it waits to go on.
    sleeper: Mutex<Option<Waker>>,
    memory: AtomicU64,
    /// Thousandths of a CPU, or `NO_SHARE`.
    cpu_millis: AtomicU32,
    /// Bytes in a second, or `NO_RATE`.
    net_rate: AtomicU64,
}

/// Where all switches are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switches {
    paused: bool,
    memory: u64,
    cpu_millis: u32,
    net_rate: u64,
}

/// No rate and no share of a CPU that a limit can be.
const NO_RATE: u64 = u64::MAX;
const NO_SHARE: u32 = u32::MAX;

impl Control {
    /// Switches for a guest that runs under these limits.
    pub fn new(limits: &Limits) -> Control {
        let control = Control {
            told: Notify::new(),
            turns: AtomicU32::new(0),
            paused: AtomicBool::new(false),
            sleeper: Mutex::new(None),
            memory: AtomicU64::new(0),
            cpu_millis: AtomicU32::new(0),
            net_rate: AtomicU64::new(0),
        };
        control.apply(limits);
        control
    }

    /// Holds the guest to other limits from now on: memory, CPU share and network rate. What it has
    /// above a lower memory limit it keeps, and gets no more.
    pub fn apply(&self, limits: &Limits) {
        self.switch(Switches {
            paused: self.paused.load(Ordering::Relaxed),
            memory: limits.memory.get(),
            cpu_millis: limits.cpus.bound().map_or(NO_SHARE, CpuShare::millis),
            net_rate: limits.net_rate.bound().map_or(NO_RATE, Rate::per_second),
        });
    }

    /// Where the switches are, for the same in another process.
    pub(crate) fn switches(&self) -> Switches {
        Switches {
            paused: self.paused.load(Ordering::Acquire),
            memory: self.memory.load(Ordering::Relaxed),
            cpu_millis: self.cpu_millis.load(Ordering::Relaxed),
            net_rate: self.net_rate.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn switch(&self, to: Switches) {
        self.memory.store(to.memory, Ordering::Relaxed);
        self.cpu_millis.store(to.cpu_millis, Ordering::Relaxed);
        self.net_rate.store(to.net_rate, Ordering::Relaxed);
        self.paused.store(to.paused, Ordering::Release);
        // One that rests for its old share looks again.
        self.wake();
    }

    /// Waits until anything is switched, or has been since it was last waited for.
    pub(crate) async fn changed(&self) {
        self.told.notified().await;
    }

    /// Stops polling the guest; a busy one stops at the next tick of its engine.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Lets the guest go on exactly where it was.
    pub fn unpause(&self) {
        self.paused.store(false, Ordering::Release);
        self.wake();
    }

    /// Has the guest, if it waits, look again.
    pub(crate) fn wake(&self) {
        self.told.notify_one();
        self.turns.fetch_add(1, Ordering::SeqCst);
        wake_all(&self.turns);
        let sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        sleeper.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn turns(&self) -> u32 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Keeps this thread until something is switched that has not been `seen`, for so long at most. A signal's handler
    /// may call it.
    pub(crate) fn wait_for_turn(&self, seen: u32, most: Option<Duration>) {
        wait_for_change(&self.turns, seen, most);
    }

    /// Notes the task of a guest that rests, to wake it when its share changes.
    pub(crate) fn rests(&self, cx: &Context<'_>) {
        let mut sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
        *sleeper = Some(cx.waker().clone());
    }

    /// Ready if the guest may be polled; else its task is woken when it may.
    pub(crate) fn poll_running(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.paused.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, since `unpause` may have come in between.
        if !self.paused.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        *sleeper = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn memory(&self) -> Bytes {
        Bytes::new(self.memory.load(Ordering::Relaxed))
    }

    /// The share of a CPU as a fraction, where there is one.
    pub(crate) fn cpu_share(&self) -> Limit<f64> {
        match self.cpu_millis.load(Ordering::Relaxed) {
            NO_SHARE => Limit::Unlimited,
            millis => Limit::AtMost(f64::from(millis) / 1000.0),
        }
    }

    /// Network bytes in a second, where there is a rate.
    pub(crate) fn net_rate(&self) -> Limit<u64> {
        match self.net_rate.load(Ordering::Relaxed) {
            NO_RATE => Limit::Unlimited,
            rate => Limit::AtMost(rate),
        }
    }
}

/// Keeps this thread until a number is another, for so long at most; it may return before. A signal's handler may
/// call it.
pub(crate) fn wait_for_change(number: &AtomicU32, seen: u32, most: Option<Duration>) {
    let most = most.map(|most| Timespec {
        tv_sec: most.as_secs() as i64,
        tv_nsec: most.subsec_nanos().into(),
    });
    // Whoever called it looks again, for whatever reason it returns.
    let _ = futex::wait(number, futex::Flags::PRIVATE, seen, most.as_ref());
}

/// Lets all threads go on that wait for a number to be another.
pub(crate) fn wake_all(number: &AtomicU32) {
    // It fails for no number that is there.
    let _ = futex::wake(number, futex::Flags::PRIVATE, i32::MAX as u32);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        Blocking, Cache, Call, Checks, CodeKey, CompileIn, Engine, Gauge, Input, Launch, Module,
        Output, Process, Profile, Stdio, Terminal, Terms,
    };
    use mote_spec::{Asks, Ceiling, ExitStatus, Policy, Request, decide};
    use std::sync::Arc;

    /// A guest that computes for ever.
    pub(crate) const SPIN: &str =
        r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;

    /// Compiles a guest that shares its process, and a policy of so much memory for it.
    fn guest(wat: &str, memory: Bytes) -> (Engine, Module, Policy) {
        guest_that_checks(Checks::Ticks, wat, memory)
    }

    pub(crate) fn guest_that_checks(
        checks: Checks,
        wat: &str,
        memory: Bytes,
    ) -> (Engine, Module, Policy) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("c")).unwrap();
        let digest = format!("sha256:{}", "aa".repeat(32)).parse().unwrap();
        let how = (Profile::Micro, checks);
        let key = CodeKey::new(&digest, how.0, how.1);
        let wasm = wat::parse_str(wat).unwrap();
        let terms = Terms::default();
        let code = crate::compile(&cache, &key, &wasm, how, (&CompileIn::Here, &terms)).unwrap();
        let request = Request {
            limits: mote_spec::LimitWants { memory: Some(memory), ..Default::default() },
            ..Request::default()
        };
        let ceiling = Ceiling::of_machine(Bytes::mib(512));
        let policy = decide(request, &Asks::default(), &ceiling).unwrap();
        let engine = Engine::new(how.0, how.1, policy.limits().bounds.stack).unwrap();
        let module = Module::load(&engine, &code).unwrap();
        (engine, module, policy)
    }

    /// Runs a guest beside what drives it, until either is done.
    pub(crate) async fn drive(
        (engine, module, policy): (Engine, Module, Policy),
        control: &Arc<Control>,
        gauge: &Arc<Gauge>,
        driver: impl Future<Output = ()>,
    ) -> Option<ExitStatus> {
        let (call, blocking) = (Call::Main, Blocking::Never);
        let launch = Launch {
            policy: &policy,
            process: Process { args: vec![], env: vec![], cwd: None, call, blocking },
            stdio: Stdio {
                input: Input::Empty,
                output: Output::Inherit,
                error: Output::Inherit,
                terminal: Terminal::No,
            },
            root: None,
            scratch: None,
            gauge: Arc::clone(gauge),
            control: Arc::clone(control),
            begun: None,
            wall: None,
        };
        tokio::select! {
            outcome = crate::run(&engine, &module, launch) => Some(outcome.unwrap().status),
            () = driver => None,
        }
    }

    pub(crate) async fn until(ready: impl Fn() -> bool) {
        while !ready() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_paused_guest_computes_nothing_and_goes_on_where_it_was() {
        let guest = guest(SPIN, Bytes::mib(1));
        let (control, gauge) =
            (Arc::new(Control::new(guest.2.limits())), Arc::new(Gauge::default()));
        let cpu = || gauge.cpu_nanos.load(Ordering::Relaxed);
        let driver = async {
            until(|| cpu() > 0).await;
            control.pause();
            // One more tick may have been under way.
            tokio::task::yield_now().await;
            let paused_at = cpu();
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
            assert_eq!(cpu(), paused_at);
            control.unpause();
            until(|| cpu() > paused_at).await;
        };
        assert_eq!(drive(guest, &control, &gauge, driver).await, None);
    }

    #[tokio::test]
    async fn a_guest_gets_the_memory_that_it_is_given_while_it_runs() {
        let grow = r#"(module (memory (export "memory") 1) (func (export "_start")
            (loop (br_if 0 (i32.eq (memory.grow (i32.const 100)) (i32.const -1))))))"#;
        let guest = guest(grow, Bytes::mib(1));
        let limits = *guest.2.limits();
        let (control, gauge) = (Arc::new(Control::new(&limits)), Arc::new(Gauge::default()));
        let driver = async {
            until(|| gauge.is_refused()).await;
            control.apply(&Limits { memory: Bytes::mib(10), ..limits });
            std::future::pending::<()>().await;
        };
        let ended = drive(guest, &control, &gauge, driver).await;
        assert_eq!(ended, Some(ExitStatus::Exited(0)));
        assert_eq!(gauge.memory.load(Ordering::Relaxed), 101 << 16);
    }

    #[test]
    fn a_timer_is_heard_beside_a_guest_that_computes() {
        let guest = guest(SPIN, Bytes::mib(1));
        let (control, gauge) =
            (Arc::new(Control::new(guest.2.limits())), Arc::new(Gauge::default()));
        let mut events = tokio::runtime::Builder::new_current_thread();
        let events = crate::look_often(&mut events).enable_all().build().unwrap();
        let busy = (Arc::clone(&control), Arc::clone(&gauge));
        events.spawn(async move { drive(guest, &busy.0, &busy.1, std::future::pending()).await });
        let cpu = || gauge.cpu_nanos.load(Ordering::Relaxed);
        let start = events.block_on(async {
            until(|| cpu() > 0).await;
            let start = cpu();
            tokio::time::sleep(Duration::from_millis(1)).await;
            start
        });
        // A loop that looks after sixty polls would let it compute for three hundred milliseconds.
        let used = cpu() - start;
        assert!(used < 150_000_000, "{used} ns");
    }

    #[tokio::test]
    async fn a_share_that_comes_late_is_not_reckoned_from_the_start() {
        let guest = guest(SPIN, Bytes::mib(1));
        let limits = *guest.2.limits();
        let (control, gauge) = (Arc::new(Control::new(&limits)), Arc::new(Gauge::default()));
        let cpu = || gauge.cpu_nanos.load(Ordering::Relaxed);
        let share = |text: &str| {
            control.apply(&Limits { cpus: Limit::AtMost(text.parse().unwrap()), ..limits });
        };
        let driver = async {
            // Ten times the share's span, which would be owed a thousandfold.
            until(|| cpu() > 1_000_000_000).await;
            share("0.01");
            let before = cpu();
            let start = std::time::Instant::now();
            until(|| cpu() > before + 3_000_000).await;
            assert!(start.elapsed().as_secs() < 50, "nothing is owed for what was free");
            // A rest under a low share ends with a higher one.
            share("1");
            let before = cpu();
            let start = std::time::Instant::now();
            until(|| cpu() > before + 100_000_000).await;
            assert!(start.elapsed().as_secs() < 5, "it rests by its old share");
        };
        assert_eq!(drive(guest, &control, &gauge, driver).await, None);
    }
}
