//! Ends of a container of the terminal that do not come from the guest: its deadline, and signals.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mote_lifecycle::Place;
use mote_spec::{ExitStatus, Limit, Policy};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

use crate::error::CliError;
use crate::output;

/// How long a call that cannot be taken back, such as a write to a full pipe, may hold up an end.
const PATIENCE: Duration = Duration::from_millis(500);

/// Ends the process a moment after the deadline if a write to a full pipe holds the guest up: such
/// a call cannot be taken back. So it does for a guest that is paused with its process. Disarmed when it is dropped.
pub(crate) struct DeadlineGuard {
    _disarm: Option<mpsc::Sender<()>>,
}

impl DeadlineGuard {
    pub(crate) fn arm(policy: &Policy, force: Arc<Force>) -> DeadlineGuard {
        let Limit::AtMost(timeout) = policy.limits().timeout else {
            return DeadlineGuard { _disarm: None };
        };
        let message = format!("{} timed out (limit {timeout})", force.name);
        let (disarm, disarmed) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let patience = timeout.duration() + PATIENCE;
            if disarmed.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                force.end_saying(ExitStatus::TimedOut, message);
            }
        });
        DeadlineGuard { _disarm: Some(disarm) }
    }
}

#[expect(clippy::exit, reason = "the main thread is held by a call that cannot be interrupted")]
fn end(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// Waits for the signals that end a process, while there is something to clear away first.
pub(crate) struct Interrupts {
    first: oneshot::Receiver<Signal>,
}

/// A signal that has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signal(i32);

impl Interrupts {
    /// Listens. If the guest's thread is held up, clears `scratch` away itself.
    pub(crate) fn listen(scratch: &Path) -> Result<Interrupts, CliError> {
        let scratch = scratch.to_owned();
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
            .map_err(|error| CliError::new(format!("cannot listen to signals: {error}")))?;
        let (tell, first) = oneshot::channel();
        std::thread::spawn(move || {
            let Some(signal) = signals.forever().next().map(Signal) else { return };
            // Nobody listens any more once the guest has ended.
            let _ = tell.send(signal);
            std::thread::sleep(PATIENCE);
            // What cannot be removed is, by the next container.
            let _ = mote_image::remove_tree(&scratch);
            signal.carry_out();
        });
        Ok(Interrupts { first })
    }

    /// How the guest ended, or the signal that came before it did.
    pub(crate) async fn or_end_of<T>(self, guest: impl Future<Output = T>) -> Result<T, Signal> {
        let mut guest = pin!(guest);
        tokio::select! {
            biased;
            ended = &mut guest => Ok(ended),
            Ok(signal) = self.first => Err(signal),
        }
    }
}

impl Signal {
    /// Lets the signal do what it does to a process that does not listen.
    pub(crate) fn carry_out(self) -> CliError {
        let Err(error) = signal_hook::low_level::emulate_default_handler(self.0) else {
            return CliError::new(format!("signal {} had no effect", self.0));
        };
        CliError::new(format!("cannot carry out signal {}: {error}", self.0))
    }
}

/// Ends the process for a stop, a kill or a deadline that its guest, held up in a call, does not let happen.
pub(crate) struct Force {
    name: String,
    /// What is cleared away: the container's place, and its scratch space.
    place: Vec<PathBuf>,
    scratch: Option<PathBuf>,
}

impl Force {
    pub(crate) fn new(name: String, place: &Place, scratch: Option<&Path>) -> Force {
        Force { name, place: place.files(), scratch: scratch.map(Path::to_owned) }
    }

    pub(crate) fn end(&self, how: ExitStatus) {
        self.end_saying(how, format!("{} {how}", self.name));
    }

    fn end_saying(&self, how: ExitStatus, words: String) {
        // What cannot be removed is, by whoever looks next.
        for file in &self.place {
            let _ = std::fs::remove_file(file);
        }
        self.scratch.iter().for_each(|scratch| drop(mote_image::remove_tree(scratch)));
        last_words(&[words]);
        end(how.code());
    }
}

/// Says why the process ends, if it can: what holds up the guest may be a full pipe of standard error.
pub(crate) fn last_words(lines: &[String]) {
    let (said, heard) = mpsc::channel();
    let lines = lines.to_vec();
    std::thread::spawn(move || {
        lines.iter().for_each(|line| output::note(line));
        // Nobody waits any longer for what took too long.
        let _ = said.send(());
    });
    let _ = heard.recv_timeout(PATIENCE);
}
