//! Interrupts a thread at every tick for as long as it polls a guest.
//!
//! A timer of the kernel's sends the thread a signal: on whatever processor it runs, and whoever else wants to, so that
//! a tick is not late. The timer goes off once more after the last poll, unless the thread is known to sleep now, and is
//! not set again before the next. The signal is `SIGURG`, which this process has for nothing else.

use std::cell::{Cell, OnceCell};
use std::io;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

/// Preemption of a guest whose code looks at nothing.
pub(crate) trait Preempt: Send {
    /// Called by the signal's handler that has found the guest's thread at this address, while it polls the guest:
    /// may hold the thread, and tells when to look again.
    fn look_up(&self, at: usize) -> Duration;
}

/// Whom a tick is for.
pub(crate) enum Ticks<'a> {
    /// A guest whose code looks at its engine's epoch, and gives way.
    Epochs(&'a wasmtime::Engine),
    /// One that is kept where it is found.
    Keeps(&'a dyn Preempt),
}

/// What the handler finds of its thread.
struct Polled<'a> {
    ticks: Ticks<'a>,
    tick: Duration,
}

/// What belongs to a thread, and is its handler's as well.
struct Here {
    /// The guest that is polled, if any.
    polled: AtomicPtr<Polled<'static>>,
    /// When the timer goes off, in nanoseconds of the monotonic clock; 0 if it is not set.
    due: AtomicU64,
    /// Whether a guest was interrupted since it has been polled.
    has_ticked: AtomicBool,
    timer: Cell<libc::timer_t>,
    /// How often a guest was interrupted.
    #[cfg(test)]
    ticks: std::sync::atomic::AtomicU32,
}

thread_local! {
    static HERE: Here = const {
        Here {
            polled: AtomicPtr::new(std::ptr::null_mut()),
            due: AtomicU64::new(0),
            has_ticked: AtomicBool::new(false),
            timer: Cell::new(std::ptr::null_mut()),
            #[cfg(test)]
            ticks: std::sync::atomic::AtomicU32::new(0),
        }
    };
    static TIMER: OnceCell<Timer> = const { OnceCell::new() };
}

/// Makes this thread's timer, if it has none.
///
/// # Errors
/// Fails if the kernel gives none, or a filter forbids to ask for one.
pub(crate) fn prepare() -> io::Result<()> {
    TIMER.with(|timer| {
        if timer.get().is_none() {
            listen()?;
            let made = Timer::for_this_thread()?;
            HERE.with(|here| here.timer.set(made.id));
            // A filter may allow to make one, and not to set it.
            set(made.id, Duration::ZERO)?;
            // Nobody else could have set it meanwhile.
            let _ = timer.set(made);
        }
        Ok(())
    })
}

/// Polls a guest on this thread, with the first tick after so long, or half of that where the timer has been set.
///
/// # Errors
/// Fails as `prepare` does.
pub(crate) fn while_polling<T>(
    ticks: Ticks<'_>,
    tick: Duration,
    poll: impl FnOnce() -> T,
) -> io::Result<T> {
    prepare()?;
    let polled = Polled { ticks, tick };
    let _polling = Polling::begin(&polled);
    Ok(poll())
}

/// Whether the guest that this thread polls has had its tick; an engine's epoch is that of all its guests.
pub(crate) fn has_come() -> bool {
    HERE.with(|here| here.has_ticked.load(Ordering::SeqCst))
}

/// Lets this thread, which polls no guest, sleep undisturbed.
pub(crate) fn none_is_due() {
    HERE.with(|here| {
        if here.due.swap(0, Ordering::SeqCst) != 0 {
            // It could be set when it was made.
            let done = set(here.timer.get(), Duration::ZERO);
            debug_assert!(done.is_ok());
        }
    });
}

/// Has the handler find a guest until this is dropped.
struct Polling<'a>(PhantomData<&'a Polled<'a>>);

impl<'a> Polling<'a> {
    fn begin(polled: &'a Polled<'a>) -> Polling<'a> {
        HERE.with(|here| {
            here.has_ticked.store(false, Ordering::SeqCst);
            here.polled.store((&raw const *polled).cast_mut().cast(), Ordering::SeqCst);
            // From here on the handler leaves it set. What is left of another guest's tick may be next to nothing.
            let (due, now, tick) = (here.due.load(Ordering::SeqCst), now(), nanos(polled.tick));
            if !(now + tick / 2..=now + tick).contains(&due) {
                here.set(polled.tick);
            }
        });
        Polling(PhantomData)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        HERE.with(|here| here.polled.store(std::ptr::null_mut(), Ordering::SeqCst));
    }
}

impl Here {
    /// What the handler does.
    fn tick(&self, at: usize) {
        // SAFETY: what it leads to lives until `Polling` is dropped, which takes the address away before, on this
        // thread.
        let Some(polled) = (unsafe { self.polled.load(Ordering::SeqCst).as_ref() }) else {
            // The thread may sleep, and is not to be woken.
            self.due.store(0, Ordering::SeqCst);
            return;
        };
        #[cfg(test)]
        self.ticks.fetch_add(1, Ordering::SeqCst);
        self.has_ticked.store(true, Ordering::SeqCst);
        self.set(match &polled.ticks {
            Ticks::Epochs(engine) => {
                engine.increment_epoch();
                polled.tick
            }
            Ticks::Keeps(seat) => seat.look_up(at),
        });
    }

    /// Has the timer go off once, after so long.
    fn set(&self, after: Duration) {
        self.due.store(now() + nanos(after), Ordering::SeqCst);
        // It could be set when it was made.
        let done = set(self.timer.get(), after.max(Duration::from_nanos(1)));
        debug_assert!(done.is_ok());
    }
}

/// Has a timer of this thread's go off once, after so long; never, after no time.
fn set(timer: libc::timer_t, after: Duration) -> io::Result<()> {
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let after = libc::timespec {
        tv_sec: after.as_secs() as libc::time_t,
        tv_nsec: after.subsec_nanos() as _,
    };
    let once = libc::itimerspec { it_interval: never, it_value: after };
    // SAFETY: the timer lives as long as its thread polls guests.
    ok(unsafe { libc::timer_settime(timer, 0, &raw const once, std::ptr::null_mut()) })
}

/// The monotonic clock, in nanoseconds.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// The signal: one that does nothing where nobody listens.
const SIGNAL: libc::c_int = libc::SIGURG;

/// Has this process's signals of timers handled.
fn listen() -> io::Result<()> {
    static LISTENS: OnceLock<Result<(), i32>> = OnceLock::new();
    let listens = LISTENS.get_or_init(|| {
        // SAFETY: all zero is a valid `sigaction`; the handler is a function of the form that `SA_SIGINFO` says, and
        // does nothing but what a handler may: it reads and writes atomic numbers and memory of its thread, tells
        // times, sets a timer and waits on futexes, none of which fails with an `errno`.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut())
        };
        ok(done).map_err(|error| error.raw_os_error().unwrap_or_default())
    });
    listens.map_err(io::Error::from_raw_os_error)
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel has filled the context.
    let at = unsafe { interrupted_at(context.cast()) };
    HERE.with(|here| here.tick(at));
}

/// Whether `interrupted_at` can tell on this processor.
pub(crate) const KNOWS_WHERE: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// Where a signal found its thread.
///
/// # Safety
/// `context` is what the kernel gave to the handler.
unsafe fn interrupted_at(context: *const libc::ucontext_t) -> usize {
    // SAFETY: as above.
    let context = unsafe { &(*context).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return context.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return context.pc as usize;
    #[cfg(target_arch = "riscv64")]
    return context.__gregs[libc::REG_PC] as usize;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    return {
        let _ = context;
        0
    };
}

/// A timer that sends its thread the signal.
struct Timer {
    id: libc::timer_t,
}

impl Timer {
    fn for_this_thread() -> io::Result<Timer> {
        let mut id = std::ptr::null_mut();
        // SAFETY: all zero is a valid `sigevent` and a valid set of signals; all that is passed lives until the calls
        // return.
        let made = unsafe {
            let mut signals: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut signals);
            libc::sigaddset(&raw mut signals, SIGNAL);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const signals, std::ptr::null_mut());
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = SIGNAL;
            event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id)
        };
        ok(made)?;
        Ok(Timer { id })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: it was made by `for_this_thread`, and this thread, which ends, polls no more guests.
        unsafe { libc::timer_delete(self.id) };
    }
}

fn ok(done: libc::c_int) -> io::Result<()> {
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const TICK: Duration = Duration::from_millis(2);

    fn ticks() -> u32 {
        HERE.with(|here| here.ticks.load(Ordering::SeqCst))
    }

    /// Computes until its thread is interrupted.
    fn until_tick() {
        let before = ticks();
        while ticks() == before {
            std::hint::spin_loop();
        }
    }

    fn is_set() -> bool {
        HERE.with(|here| here.due.load(Ordering::SeqCst) != 0)
    }

    #[test]
    fn a_guest_that_is_polled_is_interrupted_after_a_tick() {
        let engine = wasmtime::Engine::default();
        for _ in 0..5 {
            let start = Instant::now();
            while_polling(Ticks::Epochs(&engine), TICK, until_tick).unwrap();
            assert!(start.elapsed() >= TICK, "{:?}", start.elapsed());
            // It goes off once more, and is not set again.
            while is_set() {
                std::hint::spin_loop();
            }
        }
    }

    #[test]
    fn a_thread_that_polls_nobody_can_have_its_peace() {
        let engine = wasmtime::Engine::default();
        while_polling(Ticks::Epochs(&engine), Duration::from_secs(3600), || {}).unwrap();
        assert!(is_set());
        none_is_due();
        assert!(!is_set());
        while_polling(Ticks::Epochs(&engine), TICK, until_tick).unwrap();
    }

    #[test]
    fn a_shorter_tick_is_not_kept_waiting_by_a_longer_one() {
        let engine = wasmtime::Engine::default();
        let start = Instant::now();
        while_polling(Ticks::Epochs(&engine), Duration::from_secs(3600), || {}).unwrap();
        while_polling(Ticks::Epochs(&engine), TICK, until_tick).unwrap();
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }

    #[test]
    fn guests_that_come_and_go_leave_the_others_their_time() {
        let engine = wasmtime::Engine::default();
        for _ in 0..5 {
            let begun = Instant::now();
            while begun.elapsed() < TICK * 3 / 4 {
                while_polling(Ticks::Epochs(&engine), TICK, || {}).unwrap();
            }
            let start = Instant::now();
            while_polling(Ticks::Epochs(&engine), TICK, until_tick).unwrap();
            assert!(start.elapsed() >= TICK / 2, "{:?}", start.elapsed());
        }
    }

    #[test]
    fn a_tick_is_its_own_threads() {
        let engine = wasmtime::Engine::default();
        let polled = while_polling(Ticks::Epochs(&engine), Duration::from_secs(3600), || {
            let other = engine.clone();
            let ticked = std::thread::spawn(move || {
                while_polling(Ticks::Epochs(&other), TICK, || {
                    until_tick();
                    has_come()
                })
            });
            (ticked.join().unwrap().unwrap(), has_come())
        });
        assert_eq!(polled.unwrap(), (true, false));
    }
}
