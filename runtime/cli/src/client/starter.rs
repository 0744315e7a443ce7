//! Starts the daemon for a command that needs it.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Client;
use crate::app::App;
use crate::commands::daemon_socket;
use crate::error::CliError;

/// How long a daemon that is ending, or being started by somebody else, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A log of so many bytes is begun anew with the next daemon.
const LARGEST_LOG: u64 = 1 << 20;
/// How long until the next attempt.
const AGAIN: Duration = Duration::from_millis(100);

/// Starts a daemon that outlives this command, and waits until one answers: another command may have
/// started it at the same time, or one may be ending.
pub(super) fn start(app: &App) -> Result<(), CliError> {
    let begun = Instant::now();
    loop {
        // Where another has the containers, one more would only fail.
        let failed = match is_held(app) {
            true => None,
            false => match spawn(app) {
                Ok(()) => return Ok(()),
                Err(error) => Some(error),
            },
        };
        if Client::running(app).is_some() {
            return Ok(());
        }
        match failed.filter(|_| !is_held(app)) {
            Some(error) => return Err(error),
            None if is_elsewhere(app) => return Err(silent(app)),
            None if begun.elapsed() > PATIENCE => return Err(silent(app)),
            None => std::thread::sleep(AGAIN),
        }
    }
}

fn is_held(app: &App) -> bool {
    let lock = std::fs::File::open(app.machine.root.join("daemon.lock"));
    lock.is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// Whether the one that has the containers was started with another state folder.
fn is_elsewhere(app: &App) -> bool {
    let said = std::fs::read_to_string(app.machine.root.join("daemon.lock")).unwrap_or_default();
    let state = said.lines().nth(1).map(Path::new);
    state.is_some_and(|state| state != app.machine.state) && is_held(app)
}

fn silent(app: &App) -> CliError {
    let (root, socket) = (app.machine.root.display(), daemon_socket(app));
    let message =
        format!("a daemon has the containers in {root}, and none answers at {}", socket.display());
    CliError::new(message).hint(
        "it may have been started with another --state: name that one; `mote daemon stop` ends it",
    )
}

fn spawn(app: &App) -> Result<(), CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::new(format!("cannot find this program: {error}")))?;
    crate::launch::own_state(app)?;
    let log = app.machine.state.join("daemon.log");
    let failed = |error: io::Error| CliError::new(format!("cannot start the daemon: {error}"));
    // It is in memory on most machines.
    if log.metadata().is_ok_and(|found| found.len() > LARGEST_LOG) {
        let _ = std::fs::rename(&log, log.with_extension("log.1"));
    }
    let file = std::fs::File::options().create(true).append(true).open(&log).map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("--root").arg(&app.machine.root).arg("--state").arg(&app.machine.state);
    command.args(app.configured.iter().flat_map(|path| [Path::new("--config"), path]));
    command.arg("daemon").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    // Signals of this terminal are not for it.
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let mut line = String::new();
    let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    match said {
        Some(Ok(1..)) => Ok(()),
        _ => {
            // It has ended; nothing of it is left behind.
            let _ = child.wait();
            let why = std::fs::read_to_string(&log).unwrap_or_default();
            let why = why.lines().last().unwrap_or("it says nothing").to_owned();
            Err(CliError::new(format!("the daemon does not start: {why}"))
                .hint(format!("{} has more; `mote daemon` shows it here", log.display())))
        }
    }
}
