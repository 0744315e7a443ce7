//! `mote attach`, `exec`, `logs` and `events`: what containers say, as it comes.

use clap::Args;
use serde_json::{Value, json};

use crate::app::App;
use crate::client::{Body, Client, Frames, More, Typing, encoded};
use crate::commands::lifecycle::{code_of_end, framed};
use crate::container::variable;
use crate::error::CliError;
use crate::find;
use crate::output;
use crate::template::{self, Template};

/// Show what a container prints from now on, and end with its exit code
#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    /// Do not pass standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Name or id of the container
    container: String,
}

/// Run another function or program of a container's image beside it
///
/// It runs in an instance of its own, with the same grants and limits, but none of the container's
/// ports, and with scratch space of its own. COMMAND is a function that the program exports, such as
/// `check` or `add(1,2)`; the program's own name, for another run of it; or another program in the
/// image's files.
#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// Leave it running, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Tell it that it talks to a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable; a name alone takes mote's own value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Name or id of the container; all that follows is the command
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    command: Vec<String>,
}

/// Show what a container has printed
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Go on with what it prints from now on, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only what was printed since a moment: a time, or a span before now such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was printed until a moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only so many of the last lines, or all [default: all]
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = tail)]
    tail: Option<Tail>,
    /// Put the time in front of every line
    #[arg(short, long)]
    timestamps: bool,
    /// Name or id of the container
    container: String,
}

/// How much of a log's end.
#[derive(Debug, Clone, Copy)]
enum Tail {
    All,
    Last(usize),
}

/// Docker's and podman's users write `all` or -1 for everything.
fn tail(text: &str) -> Result<Tail, String> {
    match (text, text.parse()) {
        ("all" | "-1", _) => Ok(Tail::All),
        (_, Ok(lines)) => Ok(Tail::Last(lines)),
        (_, Err(_)) => Err("it is a number of lines, or all".to_owned()),
    }
}

/// Show what happens to containers, images and volumes
#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Print as `json`, or by a template such as '{{.Action}} {{.Actor.Attributes.name}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only what matches, such as container=web, event=die, type=image or label=tier=edge
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Begin with what happened since a moment: a time, or a span before now such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at a moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl AttachArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let client = find::daemon(app, &self.container)?;
        let path = format!("/containers/{}", encoded(&self.container));
        let about = client.get(&format!("{path}/json"))?;
        if about["State"]["Running"] != json!(true) {
            let message = format!("container {} does not run", self.container);
            return Err(CliError::new(message).hint("`mote start --attach` starts and shows it"));
        }
        let input = !self.no_stdin && about["Config"]["OpenStdin"] == json!(true);
        let typing = if input { Typing::Yes } else { Typing::No };
        let attach =
            format!("{path}/attach?stream=1&stdout=1&stderr=1&cooked=1&stdin={}", u8::from(input));
        client.attach(&attach, Body::Nothing, (typing, framed(&about)), async |_| Ok(()))?;
        code_of_end(&client, &self.container)
    }
}

impl ExecArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let ExecArgs { detach, interactive, tty, env, workdir, mut command } = self;
        let words = command.split_off(1);
        let container = command.remove(0);
        let client = find::daemon(app, &container)?;
        let mut variables = Vec::new();
        for text in &env {
            variables.extend(variable(text)?.map(|(name, value)| format!("{name}={value}")));
        }
        let wish = json!({
            "Cmd": words,
            "Env": variables,
            "WorkingDir": workdir.unwrap_or_default(),
            "Tty": tty,
            "AttachStdin": interactive,
            "AttachStdout": true,
            "AttachStderr": true,
        });
        let made =
            client.post(&format!("/containers/{}/exec", encoded(&container)), Body::Json(wish))?;
        let id = template::text(&made["Id"]);
        let start = Body::Json(json!({ "Detach": detach, "Tty": tty }));
        let path = format!("/exec/{id}/start");
        if detach {
            client.post(&path, start)?;
            output::line(&id);
            return Ok(0);
        }
        let typing = if interactive { Typing::Yes } else { Typing::No };
        let framed = framed(&json!({ "Config": { "Tty": tty } }));
        client.attach(&path, start, (typing, framed), async |_| Ok(()))?;
        let about = client.get(&format!("/exec/{id}/json"))?;
        let code = about["ExitCode"].as_u64().and_then(|code| u8::try_from(code).ok());
        Ok(code.unwrap_or(125))
    }
}

impl LogsArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let LogsArgs { follow, since, until, tail, timestamps, container } = self;
        let client = find::daemon(app, &container)?;
        let path = format!("/containers/{}", encoded(&container));
        let about = client.get(&format!("{path}/json"))?;
        let mut query = format!(
            "{path}/logs?stdout=1&stderr=1&follow={}&timestamps={}",
            u8::from(follow),
            u8::from(timestamps)
        );
        if let Some(Tail::Last(lines)) = tail {
            query.push_str(&format!("&tail={lines}"));
        }
        query.push_str(&times(since.as_deref(), until.as_deref()));
        let mut frames = Frames::new(framed(&about));
        client.stream(&query, |bytes| {
            frames.pass_on(bytes);
            Ok(More::Wanted)
        })
    }
}

fn times(since: Option<&str>, until: Option<&str>) -> String {
    let pairs = [("since", since), ("until", until)];
    let given = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
    given.map(|(key, value)| format!("&{key}={}", encoded(value))).collect()
}

impl EventsArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let EventsArgs { format, filter, since, until } = self;
        let template = match format.as_deref() {
            None => None,
            Some("json") => None,
            Some(text) => Some(text.parse::<Template>()?),
        };
        let as_json = format.as_deref() == Some("json");
        let filters = filters(&filter)?;
        let times = times(since.as_deref(), until.as_deref());
        let client = Client::or_start(app)?;
        let mut waiting = Vec::new();
        client.stream(
            &format!("/events?filters={}{times}", encoded(&filters.to_string())),
            |bytes| {
                waiting.extend_from_slice(bytes);
                while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = waiting.drain(..=end).collect();
                    let event: Value = serde_json::from_slice(&line).map_err(|error| {
                        CliError::new(format!("an event cannot be understood: {error}"))
                    })?;
                    match &template {
                        Some(template) => output::line(&template.fill(&event)?),
                        None if as_json => output::line(&event.to_string()),
                        None => output::line(&shown(&event)),
                    }
                }
                Ok(More::Wanted)
            },
        )
    }
}

/// Filters as the API reads them: `KEY=VALUE`, where a key may be repeated.
pub(crate) fn filters(texts: &[String]) -> Result<Value, CliError> {
    let mut filters = serde_json::Map::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=') else {
            return Err(CliError::new(format!("--filter {text}: write KEY=VALUE")));
        };
        let values = filters.entry(key).or_insert(json!([]));
        values.as_array_mut().expect("it was made as a list").push(json!(value));
    }
    Ok(Value::Object(filters))
}

/// An event on one line, as docker writes it.
fn shown(event: &Value) -> String {
    let nanos = event["timeNano"].as_u64().unwrap_or(0);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos);
    let attributes = event["Actor"]["Attributes"].as_object().into_iter().flatten();
    let attributes: Vec<String> =
        attributes.map(|(key, value)| format!("{key}={}", template::text(value))).collect();
    format!(
        "{} {} {} {} ({})",
        humantime::format_rfc3339_millis(time),
        template::text(&event["Type"]),
        template::text(&event["Action"]),
        template::text(&event["Actor"]["ID"]),
        attributes.join(", ")
    )
}
