//! `mote load`

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use mote_image::{Store, archive};
use mote_spec::ImageRef;

use crate::app::App;
use crate::error::CliError;
use crate::output;

/// Read images from an archive: of `mote save`, `podman save`, `docker save` or skopeo
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// File to read; without it the archive comes from standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

impl LoadArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let _lease = store.lease()?;
        let archive = match &self.input {
            Some(path) => File::open(path).map_err(|error| {
                CliError::not_found(format!("cannot read {}: {error}", path.display()))
            })?,
            None => standard_input(&store)?,
        };
        for image in archive::load(&store, archive, self.input.as_deref())? {
            let digest = image.manifest.digest.to_string();
            let name = image.name.as_ref().map_or(digest, ImageRef::familiar);
            if !self.quiet {
                output::line(&format!("Loaded image: {name}"));
            }
        }
        Ok(())
    }
}

/// Standard input as a file.
fn standard_input(store: &Store) -> Result<File, CliError> {
    let input = io::stdin().lock();
    if input.is_terminal() {
        return Err(CliError::new("there is no archive to read").hint("name a file with -i FILE"));
    }
    archive::spool(store, input).map_err(|error| {
        CliError::new(format!("cannot keep the archive in a temporary file: {error}"))
    })
}
