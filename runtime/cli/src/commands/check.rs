//! `mote system check`

use clap::Args;

use crate::app::App;
use crate::error::CliError;
use crate::output;

/// Look for damage in the store, and mend it
///
/// Exit codes: 0 nothing was found, or all was mended; 1 something was found.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Remove what is damaged, so that the next pull brings it whole
    #[arg(short, long)]
    repair: bool,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

impl CheckArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let store = app.store()?;
        let problems = store.check()?;
        if !self.quiet {
            problems.iter().for_each(|problem| output::line(&problem.to_string()));
        }
        if problems.is_empty() {
            return Ok(0);
        }
        if !self.repair {
            output::note(&format!("{} problems; --repair mends them", problems.len()));
            return Ok(1);
        }
        store.repair(&problems)?;
        let left = store.check()?;
        match left.len() {
            0 => Ok(0),
            count => Err(CliError::new(format!("{count} problems are left"))),
        }
    }
}
