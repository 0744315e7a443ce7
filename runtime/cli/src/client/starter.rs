//! Starts the daemon for a command that needs it.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Client;
use crate::app::App;
use crate::error::CliError;

/// How long a daemon that is ending, or being started by somebody else, is waited for.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long until the next attempt.
const AGAIN: Duration = Duration::from_millis(100);

/// Starts a daemon that outlives this command, and waits until one answers: another command may have
/// started it at the same time, or one may be ending.
pub(super) fn start(app: &App) -> Result<(), CliError> {
    let begun = Instant::now();
    loop {
        let failed = match spawn(app) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if Client::running(app).is_some() {
            return Ok(());
        }
        let held = app.machine.root.join("daemon.lock");
        let is_held = std::fs::File::open(held).is_ok_and(|lock| lock.try_lock().is_err());
        if !is_held || begun.elapsed() > PATIENCE {
            return Err(failed);
        }
        std::thread::sleep(AGAIN);
    }
}

fn spawn(app: &App) -> Result<(), CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::new(format!("cannot find this program: {error}")))?;
    crate::launch::own_state(app)?;
    let log = app.machine.state.join("daemon.log");
    let failed = |error: io::Error| CliError::new(format!("cannot start the daemon: {error}"));
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
            let why = std::fs::read_to_string(&log).unwrap_or_default();
            let why = why.lines().last().unwrap_or("it says nothing").to_owned();
            Err(CliError::new(format!("the daemon does not start: {why}"))
                .hint(format!("{} has more; `mote daemon` shows it here", log.display())))
        }
    }
}
