//! Shows how far a pull or a compilation is, to a person at a terminal and to nobody else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mote_registry::Progress;
use mote_spec::foreign::shown_in_a_line;

use crate::output;

/// Whether progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Nothing,
    /// If a person is there to see it.
    Progress,
}

/// How often the bar is drawn.
const REDRAW: Duration = Duration::from_millis(80);

/// Runs work while a thread draws how far it is.
pub(crate) fn during<T>(show: Show, what: &str, work: impl FnOnce(&Arc<Progress>) -> T) -> T {
    let progress = Arc::new(Progress::default());
    if show == Show::Nothing || !output::watched() {
        return work(&progress);
    }
    let bar = ProgressBar::new(0);
    let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(style).expect("a constant template is valid"));
    bar.set_message(shown_in_a_line(what));
    let (done, finished) = mpsc::channel::<()>();
    let (shown, drawn) = (Arc::clone(&progress), bar.clone());
    let drawer = std::thread::spawn(move || {
        while finished.recv_timeout(REDRAW) == Err(RecvTimeoutError::Timeout) {
            drawn.set_length(shown.total.load(Ordering::Relaxed));
            drawn.set_position(shown.done.load(Ordering::Relaxed));
        }
    });
    let result = work(&progress);
    drop(done);
    drawer.join().expect("drawing a bar does not panic");
    bar.finish_and_clear();
    result
}

/// Runs work of unknown length while a spinner turns.
pub(crate) fn spin<T>(show: Show, what: &str, work: impl FnOnce() -> T) -> T {
    if show == Show::Nothing || !output::watched() {
        return work();
    }
    let spinner = ProgressBar::new_spinner();
    spinner.set_message(shown_in_a_line(what));
    spinner.enable_steady_tick(REDRAW);
    let result = work();
    spinner.finish_and_clear();
    result
}
