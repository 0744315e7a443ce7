//! `mote save`

use std::path::PathBuf;

use clap::Args;
use mote_image::archive;

use crate::app::App;
use crate::error::CliError;
use crate::fetch;

/// Write images to an archive that `mote load`, skopeo and podman read
#[derive(Args, Debug)]
pub(crate) struct SaveArgs {
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl SaveArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let images: Result<Vec<_>, _> =
            self.images.iter().map(|text| fetch::find(&store, text)).collect();
        Ok(archive::save(&store, &images?, &self.output)?)
    }
}
