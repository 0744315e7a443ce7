//! `mote compile`, and the process that compiles for the other verbs.

use clap::Args;
use mote_engine::{Checks, Company, Profile, compile_worker};
use mote_image::Overrides;

use crate::app::App;
use crate::error::CliError;
use crate::fetch::{self, Fetched, PullOptions, PullWhen};
use crate::launch;
use crate::output;
use crate::progress::Show;

/// Compile programs ahead of their first run
#[derive(Args, Debug)]
pub(crate) struct CompileArgs {
    /// Compile for runs with --fuel
    #[arg(long)]
    fuel: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Images, ids of images, or files
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    options: PullOptions,
}

impl CompileArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let show = if self.quiet { Show::Nothing } else { Show::Progress };
        let checks = match self.fuel {
            true => vec![Checks::TicksAndFuel],
            // For `mote run`, and for the daemon.
            false => vec![Checks::usual(Company::Nobody), Checks::usual(Company::Others)],
        };
        for text in &self.images {
            let overrides = Overrides::default();
            let Fetched { artifact, lease: _lease } =
                fetch::artifact(app, text, PullWhen::Missing, &self.options, overrides, show)?;
            for checks in &checks {
                launch::compiled(app, &artifact, *checks, show)?;
            }
            output::line(&artifact.code.digest().to_string());
        }
        Ok(())
    }
}

/// Compile what comes from standard input; for mote itself
#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    profile: Profile,
    checks: Checks,
}

impl WorkerArgs {
    pub(crate) fn exec(self) -> Result<(), CliError> {
        Ok(compile_worker(
            self.profile,
            self.checks,
            std::io::stdin().lock(),
            std::io::stdout().lock(),
        )?)
    }
}
