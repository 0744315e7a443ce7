//! `mote run`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use mote_engine::{Call, Input, Output, Process, Stdio, Terminal};
use mote_image::{Artifact, Overrides};
use mote_spec::{Asks, ContainerName, Policy, decide};

use crate::app::App;
use crate::args::{self, GrantArgs, LimitArgs};
use crate::environment;
use crate::error::CliError;
use crate::fetch::{self, Fetched, PullOptions, PullWhen};
use crate::launch::{self, Finished, Start};
use crate::output;
use crate::progress::Show;

/// Pull an image if it is absent, then run it
///
/// The image is a registry's (`ghcr.io/acme/hello:1`), a local one (`oci:DIR`, `oci-archive:FILE`,
/// `docker-archive:FILE`), or a plain file (`./app.wasm`, `./app.wat`). The program gets nothing
/// but its arguments, the environment given here, standard streams, clocks and random numbers,
/// unless a flag grants it.
///
/// Exit codes: the guest's own; 124 timed out; 125 mote failed first; 126 cannot be run; 127 not
/// found; 134 trapped; 137 out of memory or killed; 143 stopped; 152 out of fuel.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Remove the container at its end, as happens to every container of a terminal
    #[arg(long)]
    rm: bool,
    /// Name of the container, which no other running one has; by default the start of its id
    #[arg(long, value_name = "NAME")]
    name: Option<ContainerName>,
    /// When to look for the image in its registry
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: PullWhen,
    /// Image, id of an image, or file to run; all that follows is the program's
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "ARG"])]
    command: Vec<String>,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pull_options: PullOptions,
}

/// How the program is started
#[derive(Args, Debug)]
#[command(next_help_heading = "Process")]
struct ProcessArgs {
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
    entrypoint: Option<String>,
    /// Pass standard input on; without it the program finds it empty
    #[arg(short, long)]
    interactive: bool,
    /// Tell the program that it talks to a terminal, where it does
    #[arg(short, long)]
    tty: bool,
    /// Call a function instead of the main program, such as 'add(1,2)', and print what it returns
    #[arg(long, value_name = "CALL")]
    invoke: Option<String>,
    /// Say with an annotation what flags say, such as io.mote.memory=64m
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
}

impl RunArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let RunArgs {
            grants,
            limits,
            pull_options,
            pull,
            process,
            quiet,
            rm: _,
            name,
            mut command,
        } = self;
        let args = command.split_off(1);
        let image = command.remove(0);
        let show = if quiet { Show::Nothing } else { Show::Progress };
        let _name = name.as_ref().map(|name| launch::take_name(app, name)).transpose()?;
        let entrypoint = process.entrypoint.clone().map(|program| vec![program]);
        let overrides = Overrides { entrypoint, args };
        let Fetched { artifact, lease } =
            fetch::artifact(app, &image, pull, &pull_options, overrides, show)?;
        let said = Asks::from_annotations(&process.annotations()?)?;
        let request = args::request(grants, limits, said)?;
        let asks = Asks::from_annotations(&artifact.annotations)?;
        let policy = decide(request, &asks, &app.machine.ceiling)?;
        let shown = name.as_ref().map_or(artifact.name.as_str(), ContainerName::as_str);
        let stdio = process.stdio();
        let process = process.process(&artifact, &policy)?;
        let ready = launch::prepare(app, &artifact, &policy, show)?;
        drop(lease);
        let start = Start { artifact: &artifact, name: name.clone(), process, stdio };
        let Finished { outcome, policy, .. } = launch::run(app, ready, &policy, start)?;
        outcome.results.iter().for_each(|result| output::line(result));
        launch::explain(shown, &outcome, &policy);
        Ok(outcome.status.code())
    }
}

impl ProcessArgs {
    fn annotations(&self) -> Result<BTreeMap<String, String>, CliError> {
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

    fn stdio(&self) -> Stdio {
        Stdio {
            input: if self.interactive { Input::Inherit } else { Input::Empty },
            output: Output::Inherit,
            error: Output::Inherit,
            terminal: if self.tty { Terminal::AsIs } else { Terminal::No },
        }
    }

    fn process(self, artifact: &Artifact, policy: &Policy) -> Result<Process, CliError> {
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

/// `NAME=VALUE`, or a name whose value is ours; one that we have not is left out, as docker does.
fn variable(text: &str) -> Result<Option<(String, String)>, CliError> {
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
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(variable).filter_map(Result::transpose).collect()
}
