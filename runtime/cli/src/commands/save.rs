//! `mote save`

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
            Some(path) => write(path, |file| Ok(mote_image::save(&store, &lease, &images, file)?)),
        }
    }
}

/// Writes a file that has its name only when it is whole; what is no file, such as a pipe, is written
/// to as it is.
fn write(path: &Path, save: impl FnOnce(&File) -> Result<(), CliError>) -> Result<(), CliError> {
    let failed = |error| CliError::new(format!("cannot write {}: {error}", path.display()));
    // A link leads to what is meant.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return save(&File::options().write(true).open(&target).map_err(failed)?);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let draft = tempfile::Builder::new()
        .prefix(".mote-save-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    save(draft.as_file())?;
    draft.as_file().sync_all().map_err(failed)?;
    draft.persist(&target).map(drop).map_err(|error| failed(error.error))
}
