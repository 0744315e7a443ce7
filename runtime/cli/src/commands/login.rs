//! `mote login`

use std::io::Read;

use clap::Args;
use mote_registry::{AuthFile, Client, Credential};

use crate::app::App;
use crate::error::CliError;
use crate::fetch;
use crate::output;
use crate::registry::{self, ReachArgs};

/// Log in to a registry
///
/// The password is checked with the registry, and kept in ~/.config/mote/auth.json or in the file
/// of --authfile. Credentials of docker and podman are found without logging in again.
#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password; safer from standard input
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Host of the registry, with its port
    registry: String,
    #[command(flatten)]
    reach: ReachArgs,
}

impl LoginArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let registry = registry::registry_name(&self.registry)?;
        let user = match &self.username {
            Some(user) => user.clone(),
            None => ask_user(&registry)?,
        };
        let password = self.read_password(&registry)?;
        let mut settings = self.reach.settings(app);
        settings.credentials.explicit =
            Some(Credential::Password { user: user.clone(), password: password.clone() });
        let client = Client::new(settings)?;
        fetch::block_on(client.check_login(&registry))??;
        let path = self.reach.auth_files(app).remove(0);
        let mut file = AuthFile::read(&path)?.unwrap_or_default();
        file.remember(&registry, &user, &password);
        file.write(&path)?;
        output::line(&format!("Login Succeeded: {user} at {registry}, kept in {}", path.display()));
        Ok(())
    }

    fn read_password(&self, registry: &str) -> Result<String, CliError> {
        let failed =
            |error: std::io::Error| CliError::new(format!("cannot read the password: {error}"));
        if let Some(password) = &self.password {
            return Ok(password.clone());
        }
        if self.password_stdin {
            let mut text = String::new();
            std::io::stdin().take(64 << 10).read_to_string(&mut text).map_err(failed)?;
            return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        rpassword::prompt_password(format!("Password for {registry}: "))
            .map_err(|error| failed(error).hint("give it with --password-stdin"))
    }
}

fn ask_user(registry: &str) -> Result<String, CliError> {
    use std::io::{BufRead, IsTerminal};
    let mut input = std::io::stdin().lock();
    if !input.is_terminal() {
        return Err(CliError::new("the user name is missing").hint("give it with --username"));
    }
    output::prompt(&format!("User name for {registry}: "));
    let mut user = String::new();
    let failed = |error| CliError::new(format!("cannot read the user name: {error}"));
    input.read_line(&mut user).map_err(failed)?;
    Ok(user.trim().to_owned())
}
