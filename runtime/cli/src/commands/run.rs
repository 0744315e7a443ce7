//! `mote run`

use clap::Args;
use hyper::Method;
use mote_image::Overrides;
use mote_lifecycle::Stdin;
use mote_spec::{Asks, ContainerName, ExitStatus, decide};

use crate::app::App;
use crate::args::{self, BareName, GrantArgs, LimitArgs};
use crate::client::Body;
use crate::commands::create;
use crate::container::{Described, LifeArgs, ProcessArgs, Removes};
use crate::ends;
use crate::error::CliError;
use crate::fetch::{self, Fetched, PullOptions, PullWhen};
use crate::find;
use crate::launch::{self, Afterwards, Finished, Start};
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
    /// Leave it to the daemon, and print its id; the daemon is started if it does not run
    #[arg(short, long)]
    detach: bool,
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
    life: LifeArgs,
    #[command(flatten)]
    pull_options: PullOptions,
}

impl RunArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        match self.detach {
            true => self.in_the_daemon(app),
            false => self.here(app),
        }
    }

    /// Runs it in this process, before this terminal.
    fn here(self, app: &App) -> Result<u8, CliError> {
        let inherited = mote_engine::Inherited::note();
        let RunArgs {
            grants,
            limits,
            life,
            pull_options,
            pull,
            process,
            quiet,
            detach: _,
            rm: _,
            name,
            mut command,
        } = self;
        if let Some(flag) = life.for_the_daemon() {
            let message = format!("{flag} is for containers that the daemon runs");
            return Err(CliError::new(message).hint("add -d, or leave it out"));
        }
        let args = command.split_off(1);
        let image = command.remove(0);
        process.check_args(&args)?;
        let show = if quiet { Show::Nothing } else { Show::Progress };
        name.as_ref().map(|name| find::free_of_the_daemon(app, name)).transpose()?;
        let _name = name.as_ref().map(|name| launch::take_name(app, name)).transpose()?;
        let entrypoint = process.entrypoint.clone().map(|program| vec![program]);
        let overrides = Overrides { entrypoint, args };
        let Fetched { artifact, lease } =
            fetch::artifact(app, &image, pull, &pull_options, overrides, show)?;
        let said = Asks::from_annotations(&process.annotations()?)?;
        let request = args::request(grants, limits, said, BareName::Folder)?;
        let asks = Asks::from_annotations(&artifact.annotations)?;
        let policy = decide(request, &asks, &app.machine.ceiling)?;
        let shown = name.as_ref().map_or(artifact.name.as_str(), ContainerName::as_str);
        let stdio = process.stdio();
        let process = process.process(&artifact, &policy)?;
        inherited.close();
        let ready = launch::prepare(app, &artifact, &policy, (Afterwards::Ends, show))?;
        drop(lease);
        let start = Start {
            artifact: &artifact,
            name: name.clone(),
            process,
            stdio,
            afterwards: Afterwards::Ends,
        };
        let Finished { outcome, policy, .. } = launch::run(app, ready, &policy, start)?;
        outcome.results.iter().for_each(|result| output::line(result));
        let words = outcome.explain(shown, &policy);
        match outcome.status {
            // The guest may still be held up in a write, and so may whoever writes beside it.
            ExitStatus::Stopped | ExitStatus::Killed | ExitStatus::TimedOut => {
                ends::last_words(&words);
            }
            _ => words.iter().for_each(|line| output::note(line)),
        }
        Ok(outcome.status.code())
    }

    /// Has the daemon run it.
    fn in_the_daemon(self, app: &App) -> Result<u8, CliError> {
        let RunArgs {
            grants,
            limits,
            life,
            pull_options,
            pull,
            process,
            quiet,
            detach: _,
            rm,
            name,
            command,
        } = self;
        let show = if quiet { Show::Nothing } else { Show::Progress };
        let removal = if rm { Removes::AtEnd } else { Removes::ByHand };
        let input = Stdin::Open;
        let described = Described { process, grants, limits, life, removal, input };
        let image = (command, pull, &pull_options);
        let (client, id) = create::make(app, described, name.as_ref(), image, show)?;
        if let Err(error) = client.post(&format!("/containers/{id}/start"), Body::Nothing) {
            // What never ran is of no use to anybody.
            let _ = client.call(Method::DELETE, &format!("/containers/{id}"), Body::Nothing);
            return Err(error);
        }
        output::line(&id);
        Ok(0)
    }
}
