//! `mote tag`

use clap::Args;
use mote_spec::ImageRef;

use crate::app::App;
use crate::error::CliError;
use crate::fetch;

/// Give an image another name
#[derive(Args, Debug)]
pub(crate) struct TagArgs {
    /// Name or id of the image
    image: String,
    /// Names to give it
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ImageRef>,
}

impl TagArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let lease = store.lease()?;
        let image = fetch::find(&store, &self.image)?;
        for name in &self.names {
            if name.digest().is_some() {
                return Err(CliError::new(format!(
                    "{name} has a digest, and a name is given with a tag"
                )));
            }
            store.name(&lease, name, &image.manifest, &image.resolved)?;
        }
        Ok(())
    }
}
