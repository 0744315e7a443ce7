//! `mote start`, `restart`, `rm`, `rename`, `wait` and `prune`: what happens to containers of the
//! daemon.

use clap::{Args, ValueEnum};
use hyper::Method;
use mote_spec::ContainerName;
use serde_json::Value;

use crate::app::App;
use crate::client::{Body, Client, Framed, Typing, encoded};
use crate::commands::create::exit_code;
use crate::commands::each::each;
use crate::commands::volume;
use crate::error::CliError;
use crate::find::{self, path};
use crate::output;
use crate::template;

/// Start containers that have been made, or have ended
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Show what it prints, and end with its exit code
    #[arg(short, long)]
    attach: bool,
    /// Pass standard input on (with --attach, to a container that was made with -i)
    #[arg(short, long, requires = "attach")]
    interactive: bool,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stop containers if they run, and start them
#[derive(Args, Debug)]
pub(crate) struct RestartArgs {
    /// Seconds that a container has to end of itself, if it was made with --stop-grace stdin
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Remove containers
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Kill what runs first, and do not mind what is not here
    #[arg(short, long)]
    force: bool,
    /// Every container of the daemon
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
    /// Names or ids of containers; --all stands for every one
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Give a container another name
#[derive(Args, Debug)]
pub(crate) struct RenameArgs {
    /// Name or id of the container
    container: String,
    /// Its new name
    name: ContainerName,
}

/// Wait until containers have ended, and print their exit codes
#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// What to wait for
    #[arg(long, value_enum, default_value = "not-running")]
    condition: Condition,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Condition {
    /// It does not run; at once if it has ended already
    NotRunning,
    /// Its next end
    NextExit,
    /// It is gone
    Removed,
}

/// Remove containers that do not run, and what nobody uses
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Also images that no container is made of
    #[arg(long)]
    images: bool,
    /// Also volumes that no container has
    #[arg(long)]
    volumes: bool,
}

impl StartArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        if !self.attach {
            return each(&self.containers, |container| {
                let client = find::daemon_or_start(app, container)?;
                client.post(&path(container, "/start"), Body::Nothing)?;
                Ok(container.to_owned())
            });
        }
        let [container] = self.containers.as_slice() else {
            return Err(CliError::new("--attach shows one container; name one"));
        };
        let client = find::daemon_or_start(app, container)?;
        let typing = if self.interactive { Typing::Yes } else { Typing::No };
        let ends = |client: &Client| client.get(&path(container, "/json"));
        let about = ends(&client)?;
        if self.interactive && about["Config"]["OpenStdin"] != Value::Bool(true) {
            let message = format!("{container} was made without -i, and reads no input");
            return Err(CliError::new(message).hint("leave -i out, or make it with -i"));
        }
        let framed = framed(&about);
        let attach = format!(
            "/attach?stream=1&stdout=1&stderr=1&cooked=1&stdin={}",
            u8::from(self.interactive)
        );
        client.attach(
            &path(container, &attach),
            Body::Nothing,
            (typing, framed),
            async |client| client.post_now(&path(container, "/start"), Body::Nothing).await,
        )?;
        code_of_end(&client, container)
    }
}

/// How a container's output comes.
pub(crate) fn framed(about: &Value) -> Framed {
    match about["Config"]["Tty"].as_bool() {
        Some(true) => Framed::No,
        _ => Framed::Yes,
    }
}

/// Waits for the end of a container whose output has ended, and returns its code.
pub(crate) fn code_of_end(client: &Client, container: &str) -> Result<u8, CliError> {
    match client.post(&path(container, "/wait"), Body::Nothing) {
        Ok(ended) => {
            let code = ended["StatusCode"].as_u64().and_then(|code| u8::try_from(code).ok());
            Ok(code.unwrap_or(125))
        }
        // It was removed at its end.
        Err(error) => match client.get(&path(container, "/json")) {
            Ok(about) => Ok(exit_code(&about)),
            Err(_) => Err(error),
        },
    }
}

impl RestartArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let time = self.time.map_or_else(String::new, |time| format!("?t={time}"));
        each(&self.containers, |container| {
            let client = find::daemon_or_start(app, container)?;
            client.post(&path(container, &format!("/restart{time}")), Body::Nothing)?;
            Ok(container.to_owned())
        })
    }
}

impl RmArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let mut containers = self.containers;
        if self.all {
            let client = Client::or_start(app)?;
            let all = client.get("/containers/json?all=1")?;
            let ids = all.as_array().into_iter().flatten().filter_map(|one| one["Id"].as_str());
            containers.extend(ids.map(str::to_owned));
        }
        let query = if self.force { "?force=1" } else { "" };
        if self.force && !self.all {
            let gone = |container: &str| match find::daemon_or_start(app, container) {
                Ok(client) => {
                    client.get(&path(container, "/json")).is_err_and(|error| error.is_not_found())
                }
                Err(_) => false,
            };
            containers.retain(|container| !gone(container));
        }
        each(&containers, |container| {
            let client = find::daemon_or_start(app, container)?;
            client.call(Method::DELETE, &path(container, query), Body::Nothing)?;
            Ok(container.to_owned())
        })
    }
}

impl RenameArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let client = find::daemon_or_start(app, &self.container)?;
        let query = format!("/rename?name={}", encoded(self.name.as_str()));
        client.post(&path(&self.container, &query), Body::Nothing).map(drop)
    }
}

impl WaitArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let condition = match self.condition {
            Condition::NotRunning => "not-running",
            Condition::NextExit => "next-exit",
            Condition::Removed => "removed",
        };
        each(&self.containers, |container| {
            let client = find::daemon(app, container)?;
            let wait = path(container, &format!("/wait?condition={condition}"));
            let ended = client.post(&wait, Body::Nothing)?;
            Ok(template::text(&ended["StatusCode"]))
        })
    }
}

impl PruneArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let client = Client::or_start(app)?;
        let print = |answer: &Value, key: &str, field: Option<&str>| {
            for entry in answer[key].as_array().into_iter().flatten() {
                let entry = field.map_or(entry, |field| &entry[field]);
                if !entry.is_null() {
                    output::line(&template::text(entry));
                }
            }
        };
        print(&client.post("/containers/prune", Body::Nothing)?, "ContainersDeleted", None);
        if self.images {
            let filters = encoded(r#"{"dangling":["false"]}"#);
            let path = format!("/images/prune?filters={filters}");
            let pruned = client.post(&path, Body::Nothing)?;
            print(&pruned, "ImagesDeleted", Some("Untagged"));
            print(&pruned, "ImagesDeleted", Some("Deleted"));
        }
        if self.volumes {
            volume::prune(&client)?.iter().for_each(|name| output::line(name));
        }
        Ok(())
    }
}
