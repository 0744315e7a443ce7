//! `mote logout`

use std::path::PathBuf;

use clap::Args;
use mote_registry::AuthFile;

use crate::app::App;
use crate::error::CliError;
use crate::output;
use crate::registry;

/// Forget the credential of a registry
#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    /// File of credentials, in the form of docker's config.json
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Host of the registry, with its port
    registry: String,
}

impl LogoutArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let registry = registry::registry_name(&self.registry)?;
        let path = registry::auth_files(app, self.authfile.as_ref()).remove(0);
        let mut file = AuthFile::read(&path)?.unwrap_or_default();
        if !file.forget(&registry) {
            return Err(CliError::new(format!("{} has no login for {registry}", path.display())));
        }
        file.write(&path)?;
        output::line(&format!("Removed the login for {registry}"));
        Ok(())
    }
}
