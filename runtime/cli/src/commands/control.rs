//! `mote stop`, `kill`, `pause`, `unpause` and `update`: commands for containers that run.

use clap::Args;
use mote_lifecycle::{Answer, Ask, RestartPolicy};
use mote_spec::{Bytes, CpuShare, LimitWants, Rate};
use serde_json::{Value, json};

use crate::app::App;
use crate::client::{Body, Client};
use crate::commands::each::each;
use crate::container;
use crate::error::CliError;
use crate::find::{self, Host};
use crate::launch;

/// The containers that a command is for
#[derive(Args, Debug)]
struct Containers {
    /// Names or ids of containers; --all stands for every one that runs
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Every container that runs
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
}

/// Stop containers
///
/// WASI has no signals, so that a guest is ended where it is; one that was made with
/// `--stop-grace stdin` sees the end of its input first, and has time to end of itself.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Seconds that it has to end of itself, if it was made with --stop-grace stdin
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u64>,
    #[command(flatten)]
    containers: Containers,
}

/// Kill containers
#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// KILL, or TERM, INT, HUP and QUIT, which stop it
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = parse_signal)]
    signal: Ask,
    #[command(flatten)]
    containers: Containers,
}

/// Pause containers: they compute nothing, and keep their memory
#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    containers: Containers,
}

/// Let paused containers go on where they were
#[derive(Args, Debug)]
pub(crate) struct UnpauseArgs {
    #[command(flatten)]
    containers: Containers,
}

/// Change limits of containers while they run
#[derive(Args, Debug)]
#[group(id = "limits", required = true, multiple = true, args = ["memory", "cpus", "net_rate", "restart"])]
pub(crate) struct UpdateArgs {
    /// Memory, such as 64m; what a container has above a lower limit it keeps
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Share of a CPU, such as 0.5
    #[arg(long, value_name = "SHARE")]
    cpus: Option<CpuShare>,
    /// Network bytes in a second, such as 1m
    #[arg(long, value_name = "RATE")]
    net_rate: Option<Rate>,
    /// When the daemon starts it again: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    #[command(flatten)]
    containers: Containers,
}

/// A guest has no signals: each is what it is for.
fn parse_signal(text: &str) -> Result<Ask, String> {
    match text.strip_prefix("SIG").unwrap_or(text) {
        "KILL" | "9" => Ok(Ask::Kill),
        "TERM" | "15" | "INT" | "2" | "HUP" | "1" | "QUIT" | "3" => Ok(Ask::Stop),
        other => Err(format!(
            "a guest of WASI has no signal {other}; KILL kills it, and TERM, INT, HUP and QUIT stop it"
        )),
    }
}

impl StopArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let StopArgs { time, containers } = self;
        let time = time.map_or_else(String::new, |time| format!("?t={time}"));
        containers.ask(app, &Ask::Stop, &(format!("/stop{time}"), Value::Null))
    }
}

impl KillArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let signal = if self.signal == Ask::Kill { "KILL" } else { "TERM" };
        let call = (format!("/kill?signal={signal}"), Value::Null);
        self.containers.ask(app, &self.signal, &call)
    }
}

impl PauseArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        self.containers.ask(app, &Ask::Pause, &("/pause".to_owned(), Value::Null))
    }
}

impl UnpauseArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        self.containers.ask(app, &Ask::Unpause, &("/unpause".to_owned(), Value::Null))
    }
}

impl UpdateArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let UpdateArgs { memory, cpus, net_rate, restart, containers } = self;
        let wants = LimitWants { memory, cpus, net_rate, ..LimitWants::default() };
        let change = json!({
            "Memory": memory.map_or(0, Bytes::get),
            "NanoCpus": cpus.map_or(0, |share| u64::from(share.millis()) * 1_000_000),
            "NetRate": net_rate.map_or(0, Rate::per_second),
            "RestartPolicy": restart.map(container::restart),
        });
        containers.ask(app, &Ask::Update(wants), &("/update".to_owned(), change))
    }
}

impl Containers {
    /// Asks the same of each, and prints those that did it; the exit code is 1 if one did not.
    /// `call` is what the daemon is asked where it has the container.
    fn ask(self, app: &App, ask: &Ask, call: &(String, Value)) -> Result<u8, CliError> {
        let live = launch::live(app)?;
        let mut names = self.containers;
        if self.all {
            names.extend(live.list()?.into_iter().map(|record| record.id.to_string()));
            names.extend(Client::running(app).iter().flat_map(running));
        }
        each(&names, |name| match find::host(app, name)? {
            Host::Daemon(client) => {
                let (path, body) = call;
                client.post(&find::path(name, path), Body::Json(body.clone()))?;
                Ok(name.to_owned())
            }
            Host::Terminal(_) if !call.1["RestartPolicy"].is_null() => Err(CliError::new(format!(
                "{name} is a container of a terminal, which nobody starts again"
            ))),
            Host::Terminal(record) => match live.ask(&record, ask)? {
                Answer::Refused(why) => Err(CliError::new(format!("{name}: {why}"))),
                Answer::Done | Answer::Usage(_) => Ok(name.to_owned()),
            },
        })
    }
}

/// The ids of what runs in the daemon.
fn running(client: &Client) -> Vec<String> {
    let listed = client.get("/containers/json").unwrap_or_default();
    let all = listed.as_array().into_iter().flatten();
    all.filter_map(|one| one["Id"].as_str().map(str::to_owned)).collect()
}
