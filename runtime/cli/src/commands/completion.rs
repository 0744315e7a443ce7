//! `mote completion` and `mote man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::error::CliError;
use crate::output;

/// Print the completions of a shell
///
/// For bash: `mote completion bash > /etc/bash_completion.d/mote`
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    shell: Shell,
}

/// Write the manual pages to a folder
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Folder for the pages, such as /usr/local/share/man/man1
    folder: PathBuf,
}

impl CompletionArgs {
    pub(crate) fn exec(self) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "mote", &mut script);
        output::raw(&script);
        Ok(())
    }
}

impl ManArgs {
    pub(crate) fn exec(self) -> Result<(), CliError> {
        let failed = |error: std::io::Error| {
            CliError::new(format!("cannot write to {}: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &self.folder)
            .map_err(failed)
    }
}
