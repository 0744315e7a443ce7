//! `mote save`

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use crate::app::App;
use crate::error::CliError;
use crate::fetch;

/// Write images to an archive that `mote load`, skopeo and podman read
#[derive(Args, Debug)]
pub(crate) struct SaveArgs {
    /// File to write; without it the archive goes to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl SaveArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let lease = store.lease()?;
        let images: Result<Vec<_>, _> =
            self.images.iter().map(|text| fetch::find(&store, text)).collect();
        let images = images?;
        match &self.output {
            None if io::stdout().is_terminal() => {
                Err(CliError::new("an archive is not for a terminal")
                    .hint("name a file with -o FILE"))
            }
            None => Ok(mote_image::save(&store, &lease, &images, io::stdout().lock())?),
            Some(path) => {
                // An archive has its name only when it is whole.
                let draft = path.with_added_extension("part");
                let failed =
                    |error| CliError::new(format!("cannot write {}: {error}", path.display()));
                let file = File::create(&draft).map_err(failed)?;
                let saved = mote_image::save(&store, &lease, &images, &file);
                if saved.is_err() {
                    // What cannot be removed is seen to be a part by its name.
                    let _ = std::fs::remove_file(&draft);
                }
                saved?;
                file.sync_all().and_then(|()| std::fs::rename(&draft, path)).map_err(failed)
            }
        }
    }
}
