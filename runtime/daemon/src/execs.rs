//! Execs of a daemon, by their ids: asked for by one request of a client, and started by another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mote_engine::Terminal;
use mote_lifecycle::Status;
use mote_spec::ExitStatus;

use crate::entry::Entry;
use crate::error::DaemonError;

/// Process that a client wants beside a container.
#[derive(Debug, Clone)]
pub(crate) struct ExecRequest {
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Option<String>,
    pub(crate) terminal: Terminal,
}

/// Exec instance: the request of a client, and how far it is.
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) entry: Arc<Entry>,
    pub(crate) wish: ExecRequest,
    pub(crate) takes_input: bool,
    state: Mutex<State>,
}

/// State of an exec instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    New,
    Running,
    Ended(ExitStatus),
}

/// The execs of a daemon; those of containers that are gone go with them.
#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

/// So many that have ended are remembered.
const REMEMBERED: usize = 256;
/// So many that run or wait to be started there may be.
const MOST: usize = 1024;

impl Execs {
    /// # Errors
    /// Fails if too many wait to be started.
    pub(crate) fn add(&self, exec: Exec) -> Result<Arc<Exec>, DaemonError> {
        let exec = Arc::new(exec);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.retain(|_, exec| !matches!(exec.state(), State::Ended(_)) && exec.is_of_use());
        }
        if all.len() >= MOST {
            return Err(DaemonError::Conflict(format!("{MOST} execs are there already")));
        }
        all.insert(exec.id.clone(), Arc::clone(&exec));
        Ok(exec)
    }

    pub(crate) fn find(&self, id: &str) -> Result<Arc<Exec>, DaemonError> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let none = || DaemonError::Nothing { what: "exec instance", name: id.to_owned() };
        all.get(id).cloned().ok_or_else(none)
    }

    /// The ids of those that run beside a container.
    pub(crate) fn beside(&self, entry: &Arc<Entry>) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = all
            .values()
            .filter(|exec| Arc::ptr_eq(&exec.entry, entry) && exec.state() == State::Running);
        running.map(|exec| exec.id.clone()).collect()
    }
}

impl Exec {
    pub(crate) fn new(id: String, entry: Arc<Entry>, wish: ExecRequest, takes_input: bool) -> Exec {
        Exec { id, entry, wish, takes_input, state: Mutex::new(State::New) }
    }

    pub(crate) fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_of_use(&self) -> bool {
        self.entry.record().status() != Status::Removed
    }

    /// Takes the right to start it, which there is once.
    pub(crate) fn begin(&self) -> Result<(), DaemonError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::New => {
                *state = State::Running;
                Ok(())
            }
            State::Running | State::Ended(_) => {
                Err(DaemonError::Conflict(format!("exec {} was started before", self.id)))
            }
        }
    }

    pub(crate) fn end(&self, how: ExitStatus) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Ended(how);
    }
}
