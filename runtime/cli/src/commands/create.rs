//! `mote create`, and what `run --detach` shares with it.

use clap::Args;
use mote_image::Source;
use mote_lifecycle::Stdin;
use mote_spec::ContainerName;
use serde_json::Value;

use crate::app::App;
use crate::args::{GrantArgs, LimitArgs};
use crate::client::{Body, Client, encoded};
use crate::container::{Described, LifeArgs, ProcessArgs, Removes};
use crate::error::CliError;
use crate::fetch::{self, PullOptions, PullWhen};
use crate::find;
use crate::output;
use crate::progress::Show;

/// Make a container that the daemon can start, and print its id
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Remove the container at its end
    #[arg(long)]
    rm: bool,
    /// Name of the container; by default the start of its id
    #[arg(long, value_name = "NAME")]
    name: Option<ContainerName>,
    /// When to look for the image in its registry
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: PullWhen,
    /// Image or id of an image; all that follows is the program's
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

impl CreateArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let CreateArgs {
            quiet,
            rm,
            name,
            pull,
            command,
            process,
            grants,
            limits,
            life,
            pull_options,
        } = self;
        let show = if quiet { Show::Nothing } else { Show::Progress };
        let removal = if rm { Removes::AtEnd } else { Removes::ByHand };
        // Whoever starts it and types to it is the only one.
        let input = Stdin::Once;
        let described = Described { process, grants, limits, life, removal, input };
        let image = (command, pull, &pull_options);
        let (_, id) = make(app, described, name.as_ref(), image, show)?;
        output::line(&id);
        Ok(())
    }
}

/// Has the daemon make a container of an image that is brought here if it has to be.
pub(crate) fn make(
    app: &App,
    described: Described,
    name: Option<&ContainerName>,
    (mut command, pull, options): (Vec<String>, PullWhen, &PullOptions),
    show: Show,
) -> Result<(Client, String), CliError> {
    let args = command.split_off(1);
    let text = command.remove(0);
    described.process.check_args(&args)?;
    let image = image(app, &text, pull, options, show)?;
    let request = described.request(&image, args)?;
    name.map(|name| find::free_of_terminals(app, name)).transpose()?;
    let client = Client::or_start(app)?;
    let query = name.map_or_else(String::new, |name| format!("?name={}", encoded(name.as_str())));
    let made = client.post(&format!("/containers/create{query}"), Body::Json(request))?;
    match made["Id"].as_str() {
        Some(id) => Ok((client, id.to_owned())),
        None => Err(CliError::new("the daemon's answer has no id")),
    }
}

/// Brings an image to this machine if it has to be, and says how the daemon finds it.
fn image(
    app: &App,
    text: &str,
    pull: PullWhen,
    options: &PullOptions,
    show: Show,
) -> Result<String, CliError> {
    if let Ok(Source::File(path)) = text.parse::<Source>() {
        if !path.exists() {
            return Err(CliError::not_found(format!("no file {} is here", path.display())));
        }
        let message = format!("{} is a plain file, and the daemon runs images", path.display());
        return Err(CliError::new(message)
            .hint(format!("make one of it: `mote import {text} NAME:TAG`, then name that")));
    }
    let stored = fetch::stored(app, text, pull, options, show)?;
    Ok(stored.name.map_or_else(|| stored.manifest.digest.to_string(), |name| name.familiar()))
}

/// A container's exit code, from what the daemon tells of it.
pub(crate) fn exit_code(about: &Value) -> u8 {
    about["State"]["ExitCode"].as_u64().and_then(|code| u8::try_from(code).ok()).unwrap_or(125)
}
