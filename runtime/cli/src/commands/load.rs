//! `mote load`

use std::path::PathBuf;

use clap::Args;
use mote_image::archive;
use mote_spec::ImageRef;

use crate::app::App;
use crate::error::CliError;
use crate::output;

/// Read images from an archive: of `mote save`, `podman save`, `docker save` or skopeo
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// File to read
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

impl LoadArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let _lease = store.lease()?;
        for image in archive::load(&store, &self.input)? {
            let digest = image.manifest.digest.to_string();
            let name = image.name.as_ref().map_or(digest, ImageRef::familiar);
            if !self.quiet {
                output::line(&format!("Loaded image: {name}"));
            }
        }
        Ok(())
    }
}
