//! Flags that describe a container, for `run` and `create`, and what they say to the daemon.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mote_daemon::api::{HEALTH_HTTP, HEALTH_ON_FAILURE, INVOKE, STOP_GRACE};
use mote_engine::{Call, Input, Output, Process, Stdio, Terminal};
use mote_image::Artifact;
use mote_lifecycle::{LogDriver, OnFailure, RestartPolicy, Stdin};
use mote_spec::{
    Asks, Bytes, Capabilities, DirGrant, Grants, Policy, Request, Root, SecurityWants,
};
use serde_json::{Map, Value, json};

use crate::args::{self, BareName, GrantArgs, LimitArgs};
use crate::environment;
use crate::error::CliError;
use crate::launch;

/// How the program is started
#[derive(Args, Debug)]
#[command(next_help_heading = "Process")]
pub(crate) struct ProcessArgs {
    /// Set an environment variable; a name alone takes mote's own value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Program of the image to run instead of its own
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Pass standard input on; without it the program finds it empty
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Tell the program that it talks to a terminal, where it does
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Call a function instead of the main program, such as 'add(1,2)', and print what it returns
    #[arg(long, value_name = "CALL")]
    invoke: Option<String>,
    /// Say with an annotation what flags say, such as io.mote.memory=64m
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
}

/// How a container lives that the daemon runs
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Lifecycle (with --detach, and for create)")]
pub(crate) struct LifeArgs {
    /// When to start it again: no, on-failure[:N], always or unless-stopped [default: no]
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// Label it, as KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// What keeps its output: json-file, journald or none [default: json-file]
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<LogDriver>,
    /// Options of its log: max-size=5m, max-file=2
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// How it is told to stop: interrupt (it ends where it is) or stdin (its input ends first)
    /// [default: interrupt]
    #[arg(long, value_name = "HOW", value_parser = ["interrupt", "stdin"])]
    stop_grace: Option<String>,
    /// Seconds that it has to end of itself, with --stop-grace stdin [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// Memory that the host has to have for it, where that is not its limit
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<Bytes>,
    #[command(flatten)]
    health: HealthArgs,
}

/// How its health is found out
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Health (with --detach, and for create)")]
pub(crate) struct HealthArgs {
    /// Function or program of the image that ends with 0 if all is well
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Address that answers a GET if all is well, such as http://127.0.0.1:8080/healthz
    #[arg(long, value_name = "URL", conflicts_with = "health_cmd")]
    health_http: Option<String>,
    /// Time between two checks [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    health_interval: Option<Duration>,
    /// Time that one may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    health_timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,
    /// Time after the start in which failures do not count [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    health_start_period: Option<Duration>,
    /// What to do when it turns unhealthy: none, kill, restart or stop [default: none]
    #[arg(long, value_name = "WHAT")]
    health_on_failure: Option<OnFailure>,
}

impl LifeArgs {
    /// The first flag that means nothing to a container of a terminal.
    pub(crate) fn for_the_daemon(&self) -> Option<&'static str> {
        let LifeArgs {
            restart,
            label,
            log_driver,
            log_opt,
            stop_grace,
            stop_timeout,
            memory_reservation,
            health,
        } = self;
        let flags = [
            ("--restart", restart.is_some_and(|policy| policy != RestartPolicy::No)),
            ("--label", !label.is_empty()),
            ("--log-driver", log_driver.is_some()),
            ("--log-opt", !log_opt.is_empty()),
            ("--stop-grace", stop_grace.is_some()),
            ("--stop-timeout", stop_timeout.is_some()),
            ("--memory-reservation", memory_reservation.is_some()),
            ("--health-cmd", health.health_cmd.is_some()),
            ("--health-http", health.health_http.is_some()),
            ("--health-interval", health.health_interval.is_some()),
            ("--health-timeout", health.health_timeout.is_some()),
            ("--health-retries", health.health_retries.is_some()),
            ("--health-start-period", health.health_start_period.is_some()),
            ("--health-on-failure", health.health_on_failure.is_some()),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

/// All flags that describe a container.
pub(crate) struct Described {
    pub(crate) process: ProcessArgs,
    pub(crate) grants: GrantArgs,
    pub(crate) limits: LimitArgs,
    pub(crate) life: LifeArgs,
    pub(crate) removal: Removes,
    pub(crate) input: Stdin,
}

/// Whether the container goes when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removes {
    ByHand,
    AtEnd,
}

impl Described {
    /// What the daemon is asked to make, in docker's words.
    pub(crate) fn request(self, image: &str, args: Vec<String>) -> Result<Value, CliError> {
        let Described { process, grants, limits, life, removal, input } = self;
        let said = Asks::from_annotations(&process.annotations()?)?;
        let Request { limits, grants, security } =
            args::request(grants, limits, said, BareName::Volume)?;
        let Grants { dirs, scratch, root, net } = grants;
        dirs.iter().try_for_each(refuse_missing)?;
        let mut labels = pairs(&life.label);
        let asks = Asks { limits, net, isolation: security.isolation };
        labels.extend(own_labels(asks, &process, &life));
        let scratch: Map<String, Value> = scratch
            .iter()
            .map(|space| (space.guest.to_string(), json!(format!("size={}", space.size.get()))))
            .collect();
        let binds: Vec<String> = dirs.iter().map(ToString::to_string).collect();
        let mut env: Vec<String> = Vec::new();
        for path in &process.env_file {
            env.extend(
                read_env_file(path)?.into_iter().map(|(name, value)| format!("{name}={value}")),
            );
        }
        for text in &process.env {
            env.extend(variable(text)?.map(|(name, value)| format!("{name}={value}")));
        }
        Ok(json!({
            "Image": image,
            "Cmd": args,
            "Entrypoint": process.entrypoint.map(|program| vec![program]),
            "Env": env,
            "WorkingDir": process.workdir.unwrap_or_default(),
            "User": security.user.map(|user| user.to_string()).unwrap_or_default(),
            "Labels": labels,
            "Tty": process.tty,
            "OpenStdin": process.interactive,
            "StdinOnce": input == Stdin::Once,
            "StopTimeout": life.stop_timeout,
            "Healthcheck": life.health.request(),
            "HostConfig": {
                "Binds": binds,
                "Tmpfs": scratch,
                "ReadonlyRootfs": root == Root::ReadOnly,
                "CapAdd": words(&security.cap_add),
                "CapDrop": words(&security.cap_drop),
                "SecurityOpt": options(&security),
                "AutoRemove": removal == Removes::AtEnd,
                "RestartPolicy": restart(life.restart.unwrap_or_default()),
                "MemoryReservation": life.memory_reservation.map_or(0, Bytes::get),
                "LogConfig": {
                    "Type": life.log_driver.unwrap_or_default().to_string(),
                    "Config": pairs(&life.log_opt),
                },
            },
        }))
    }
}

fn words(capabilities: &[Capabilities]) -> Vec<String> {
    capabilities.iter().map(ToString::to_string).collect()
}

/// Docker's words for profiles: what a file holds, and not its path.
fn options(security: &SecurityWants) -> Vec<String> {
    let option =
        |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key}={value}"));
    let all = [option("seccomp", &security.seccomp), option("apparmor", &security.apparmor)];
    all.into_iter().flatten().collect()
}

/// Refuses a folder that is not there: the API would make it, as docker's does.
fn refuse_missing(dir: &DirGrant) -> Result<(), CliError> {
    match dir.host.is_absolute() && dir.host.symlink_metadata().is_err() {
        true => Err(CliError::new(format!("{} is not there", dir.host.display()))
            .hint("a volume is written HOST_DIR:GUEST_DIR, and HOST_DIR has to exist; a name alone is a volume of the daemon's own")),
        false => Ok(()),
    }
}

impl HealthArgs {
    fn request(&self) -> Value {
        let nanos = |time: Option<Duration>| time.map_or(0, |time| time.as_nanos() as u64);
        let test = match &self.health_cmd {
            Some(command) => {
                let words = command.split_whitespace().map(str::to_owned);
                std::iter::once("CMD".to_owned()).chain(words).collect()
            }
            None => Vec::new(),
        };
        json!({
            "Test": test,
            "Interval": nanos(self.health_interval),
            "Timeout": nanos(self.health_timeout),
            "StartPeriod": nanos(self.health_start_period),
            "Retries": self.health_retries.unwrap_or(0),
        })
    }
}

/// What docker has no words for: `io.mote.*`.
fn own_labels(asks: Asks, process: &ProcessArgs, life: &LifeArgs) -> BTreeMap<String, String> {
    let mut labels = asks.to_annotations();
    let on_failure = life.health.health_on_failure.map(|what| what.to_string());
    let more = [
        (INVOKE, &process.invoke),
        (STOP_GRACE, &life.stop_grace),
        (HEALTH_HTTP, &life.health.health_http),
        (HEALTH_ON_FAILURE, &on_failure),
    ];
    for (key, value) in more {
        labels.extend(value.as_ref().map(|value| (key.to_owned(), value.clone())));
    }
    labels
}

fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    texts.iter().map(pair).collect()
}

/// A restart policy in docker's words.
pub(crate) fn restart(policy: RestartPolicy) -> Value {
    let (name, most) = match policy {
        RestartPolicy::OnFailure(most) => ("on-failure".to_owned(), most.unwrap_or(0)),
        other => (other.to_string(), 0),
    };
    json!({ "Name": name, "MaximumRetryCount": most })
}

impl ProcessArgs {
    pub(crate) fn annotations(&self) -> Result<BTreeMap<String, String>, CliError> {
        let pair = |text: &String| match text.split_once('=') {
            Some((key, value)) if key.starts_with(mote_spec::ANNOTATION_PREFIX) => {
                Ok((key.to_owned(), value.to_owned()))
            }
            Some((key, _)) => Err(CliError::new(format!(
                "--annotation {key}: only io.mote.* annotations say something to `mote run`"
            ))),
            None => Err(CliError::new(format!("--annotation {text}: write KEY=VALUE"))),
        };
        self.annotation.iter().map(pair).collect()
    }

    /// Refuses arguments behind a call that has its own.
    pub(crate) fn check_args(&self, args: &[String]) -> Result<(), CliError> {
        match self.invoke.as_deref().filter(|call| call.contains('(')) {
            Some(call) if !args.is_empty() => {
                Err(CliError::new(format!("--invoke {call} has arguments of its own"))
                    .hint("leave those behind the image out, or write only the function's name"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn stdio(&self) -> Stdio {
        Stdio {
            input: if self.interactive { Input::Inherit } else { Input::Empty },
            output: Output::Inherit,
            error: Output::Inherit,
            terminal: if self.tty { Terminal::AsIs } else { Terminal::No },
        }
    }

    pub(crate) fn process(self, artifact: &Artifact, policy: &Policy) -> Result<Process, CliError> {
        // A working folder of an image without files leads nowhere.
        let own = artifact.cwd.clone().filter(|_| artifact.rootfs.is_some());
        let cwd = self.workdir.clone().or(own);
        let call = match (&self.invoke, &artifact.export) {
            (Some(call), _) if call.contains('(') => Call::Invoke(call.clone()),
            // As wasmtime has it: the function alone, and its arguments behind the program.
            (Some(name), _) => Call::Invoke(format!(
                "{name}({})",
                artifact.args.get(1..).unwrap_or_default().join(",")
            )),
            (None, Some(export)) if export != "_start" => Call::Export(export.clone()),
            (None, _) => Call::Main,
        };
        let mut env = BTreeMap::new();
        for pair in &artifact.env {
            env.extend(
                pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
        }
        for path in &self.env_file {
            env.extend(read_env_file(path)?);
        }
        for text in &self.env {
            env.extend(variable(text)?);
        }
        if let Some(cwd) = &cwd {
            // Preview 1 has no working directory; libraries of Go and others look here.
            env.entry("PWD".to_owned()).or_insert_with(|| cwd.clone());
        }
        Ok(Process {
            args: artifact.args.clone(),
            env: env.into_iter().collect(),
            cwd,
            call,
            blocking: launch::blocking(policy),
        })
    }
}

/// A time that is not none.
fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("it takes some time, such as 10s".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// `NAME=VALUE`, or a name whose value is ours; one that we have not is left out, as docker does.
pub(crate) fn variable(text: &str) -> Result<Option<(String, String)>, CliError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, environment::variable(text)),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(CliError::new(format!("`{text}` is not a variable: write NAME=VALUE")));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

fn read_env_file(path: &PathBuf) -> Result<Vec<(String, String)>, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::new(format!("cannot read {}: {error}", path.display())))?;
    // Editors of Windows write a byte order mark, which belongs to no name.
    let text = text.trim_start_matches('\u{feff}');
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let named = |line| {
        variable(line).map_err(|error| CliError::new(format!("{}: {error}", path.display())))
    };
    lines.map(named).filter_map(Result::transpose).collect()
}
