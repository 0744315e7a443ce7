//! `mote stop`, `kill`, `pause`, `unpause` and `update`: commands for containers that run.

use clap::Args;
use mote_lifecycle::{Answer, Ask};
use mote_spec::{Bytes, CpuShare, LimitWants, Rate};

use crate::app::App;
use crate::error::CliError;
use crate::launch;
use crate::output;

/// The containers that a command is for
#[derive(Args, Debug)]
struct Containers {
    /// Names or ids of containers
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Every container that runs
    #[arg(short, long)]
    all: bool,
}

/// Stop containers
///
/// WASI has no signals, so that a guest is ended where it is.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Seconds to wait before it is killed; none are needed, since it ends at once
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
#[group(id = "limits", required = true, multiple = true, args = ["memory", "cpus", "net_rate"])]
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
    #[command(flatten)]
    containers: Containers,
}

/// A guest has no signals: each is what it is for.
fn parse_signal(text: &str) -> Result<Ask, String> {
    match text.strip_prefix("SIG").unwrap_or(text) {
        "KILL" | "9" => Ok(Ask::Kill),
        "TERM" | "15" | "INT" | "2" | "HUP" | "1" | "QUIT" | "3" => Ok(Ask::Stop),
        other => Err(format!("a guest of WASI has no signal {other}; KILL and TERM end it")),
    }
}

impl StopArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let StopArgs { time: _, containers } = self;
        containers.ask(app, &Ask::Stop)
    }
}

impl KillArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        self.containers.ask(app, &self.signal)
    }
}

impl PauseArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        self.containers.ask(app, &Ask::Pause)
    }
}

impl UnpauseArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        self.containers.ask(app, &Ask::Unpause)
    }
}

impl UpdateArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let UpdateArgs { memory, cpus, net_rate, containers } = self;
        let wants = LimitWants { memory, cpus, net_rate, ..LimitWants::default() };
        containers.ask(app, &Ask::Update(wants))
    }
}

impl Containers {
    /// Asks the same of each, and prints those that did it; the exit code is 1 if one did not.
    fn ask(self, app: &App, ask: &Ask) -> Result<u8, CliError> {
        let live = launch::live(app)?;
        let mut names = self.containers;
        if self.all {
            names.extend(live.list()?.into_iter().map(|record| record.id.to_string()));
        }
        let mut failed = 0;
        for name in names {
            let answer = live.find(&name).and_then(|record| live.ask(&record, ask));
            match answer.map_err(CliError::from) {
                Ok(Answer::Refused(why)) => {
                    output::error(&format!("{name}: {why}"));
                    failed = 1;
                }
                Ok(Answer::Done | Answer::Usage(_)) => output::line(&name),
                Err(error) => {
                    output::error(&error.to_string());
                    failed = 1;
                }
            }
        }
        Ok(failed)
    }
}
