//! Finds the process that runs a container: a terminal's, or the daemon.

use mote_lifecycle::{LiveError, Record, Records};
use mote_spec::ContainerName;

use crate::app::App;
use crate::client::{Client, encoded};
use crate::error::CliError;
use crate::launch;

/// The process that has a container.
pub(crate) enum Host {
    Terminal(Box<Record>),
    /// If anybody has it, the daemon has.
    Daemon(Client),
}

/// Finds who has a container.
///
/// # Errors
/// Fails if nobody can have it: no terminal does, and no daemon runs.
pub(crate) fn host(app: &App, container: &str) -> Result<Host, CliError> {
    let here = in_terminal(app, container)?;
    match (here, Client::running(app)) {
        (Some(record), Some(client)) if is_ambiguous(&client, &record, container) => {
            let message =
                format!("{container} is a container of a terminal, and one of the daemon");
            Err(CliError::new(message).hint("name it by its id; `mote ps` shows it"))
        }
        (Some(record), _) => Ok(Host::Terminal(Box::new(record))),
        (None, Some(client)) => Ok(Host::Daemon(client)),
        (None, None) => Err(absent(app, container)),
    }
}

/// Finds the daemon for what only its containers can do.
pub(crate) fn daemon(app: &App, container: &str) -> Result<Client, CliError> {
    match host(app, container)? {
        Host::Daemon(client) => Ok(client),
        Host::Terminal(record) => Err(is_a_terminals(&record)),
    }
}

/// Finds the daemon, and starts it if it does not run: what is on record comes back with it.
pub(crate) fn daemon_or_start(app: &App, container: &str) -> Result<Client, CliError> {
    match (in_terminal(app, container)?, Client::running(app)) {
        (Some(record), None) => Err(is_a_terminals(&record)),
        (Some(_), Some(_)) => daemon(app, container),
        (None, Some(client)) => Ok(client),
        (None, None) => Client::or_start(app),
    }
}

fn in_terminal(app: &App, container: &str) -> Result<Option<Record>, CliError> {
    if container.is_empty() {
        return Err(CliError::new("the name of a container is empty"));
    }
    match launch::live(app)?.find(container) {
        Ok(record) => Ok(Some(record)),
        Err(LiveError::None(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a name for the daemon's container that one of a terminal has.
pub(crate) fn free_of_terminals(app: &App, name: &ContainerName) -> Result<(), CliError> {
    let all = launch::live(app)?.list()?;
    match all.iter().any(|record| record.name == *name) {
        true => Err(taken(name, "a terminal")),
        false => Ok(()),
    }
}

/// Refuses a name for a terminal's container that one of the daemon has.
pub(crate) fn free_of_the_daemon(app: &App, name: &ContainerName) -> Result<(), CliError> {
    match Client::running(app).is_some_and(|client| client.has(name.as_str())) {
        true => Err(taken(name, "the daemon")),
        false => Ok(()),
    }
}

fn taken(name: &ContainerName, whose: &str) -> CliError {
    CliError::new(format!("the name {name} is in use by a container of {whose}"))
        .hint("choose another --name")
}

/// Whether a text that names a terminal's container names another of the daemon as well.
fn is_ambiguous(client: &Client, here: &Record, text: &str) -> bool {
    here.name.as_str() == text && client.has(text)
}

fn is_a_terminals(record: &Record) -> CliError {
    let message = format!("{} is a container of `mote run` in a terminal", record.name);
    CliError::new(message).hint(
        "stop, kill, pause, unpause, update, stats and inspect reach it; `mote run -d` has the daemon run one, which the rest is for",
    )
}

/// Says why nobody has a container: what is on record, its daemon has when it runs.
fn absent(app: &App, container: &str) -> CliError {
    match is_recorded(app, container) {
        true => CliError::new(format!("the daemon that has {container} does not run"))
            .hint("`mote daemon` runs it, and so does `mote start`"),
        false => CliError::not_found(format!(
            "no running container is called {container}, and no daemon runs that could have it"
        ))
        .hint("`mote daemon` starts one, and so does `mote run -d`; `mote ps` lists what runs"),
    }
}

fn is_recorded(app: &App, container: &str) -> bool {
    if !app.machine.root.join("containers.db").exists() {
        return false;
    }
    let listed = Records::open(&app.machine.root).and_then(|records| records.list());
    let is = |record: &Record| {
        record.name.as_str() == container || record.id.as_str().starts_with(container)
    };
    listed.is_ok_and(|(records, _)| records.iter().any(is))
}

/// A path of the API that is about a container.
pub(crate) fn path(container: &str, what: &str) -> String {
    format!("/containers/{}{what}", encoded(container))
}
