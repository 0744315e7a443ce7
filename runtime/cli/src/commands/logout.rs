//! `mote logout`

use clap::Args;
use mote_image::registry::AuthFile;

use crate::app::App;
use crate::error::CliError;
use crate::fetch::RegistryArgs;
use crate::output;

/// Forget the credential of a registry
#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    registry_args: RegistryArgs,
    /// Host of the registry, with its port
    registry: String,
}

impl LogoutArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let registry =
            format!("{}/x", self.registry).parse::<mote_spec::ImageRef>()?.registry().to_owned();
        let path = self.registry_args.auth_files(app).remove(0);
        let mut file = AuthFile::read(&path)?.unwrap_or_default();
        if !file.forget(&registry) {
            return Err(CliError::new(format!("{} has no login for {registry}", path.display())));
        }
        file.write(&path)?;
        output::line(&format!("Removed the login for {registry}"));
        Ok(())
    }
}
