//! How registries are reached: flags, configuration, environment, and files of credentials.

use std::path::PathBuf;

use clap::Args;
use mote_registry::{Credential, Credentials, Proxy, Settings, TlsVerify};
use mote_spec::ImageRef;

use crate::app::App;
use crate::error::CliError;

/// Options of what contacts a registry
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct ReachArgs {
    /// Check certificates; `false` also allows plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: bool,
    /// File of credentials, in the form of docker's config.json
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

/// The same, with a credential
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct RegistryArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Credential to use, as USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
}

impl RegistryArgs {
    /// How registries are reached, with the credential that was given.
    pub(crate) fn settings(&self, app: &App) -> Result<Settings, CliError> {
        let explicit = self.creds.as_deref().map(|text| match text.split_once(':') {
            Some((user, password)) => {
                Ok(Credential::Password { user: user.to_owned(), password: password.to_owned() })
            }
            None => Err(CliError::new("--creds is written USER:PASSWORD")),
        });
        let mut settings = self.reach.settings(app);
        settings.credentials.explicit = explicit.transpose()?;
        Ok(settings)
    }

    /// The first of these flags that was given.
    pub(crate) fn set(&self) -> Option<&'static str> {
        let RegistryArgs { reach: ReachArgs { tls_verify, authfile }, creds } = self;
        let flags = [
            ("--creds", creds.is_some()),
            ("--authfile", authfile.is_some()),
            ("--tls-verify", !tls_verify),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

/// How registries are reached where no option says otherwise.
pub(crate) fn usual(app: &App) -> Settings {
    ReachArgs { tls_verify: true, authfile: None }.settings(app)
}

impl ReachArgs {
    /// How registries are reached: these options, the configuration, the environment.
    pub(crate) fn settings(&self, app: &App) -> Settings {
        let (environment, registries) = (&app.environment, app.config.registries());
        Settings {
            verify: if self.tls_verify { TlsVerify::Always } else { TlsVerify::Never },
            plain_http: registries.plain_http,
            mirrors: registries.mirrors,
            authorities: registries.authorities,
            credentials: Credentials { files: self.auth_files(app), ..Credentials::default() },
            proxy: Proxy {
                http: environment.http_proxy.clone(),
                https: environment.https_proxy.clone(),
                no_proxy: environment.no_proxy.clone(),
            },
            token_servers: registries.token_servers,
            stall: registries.stall.map_or(Settings::default().stall, |stall| stall.duration()),
            deadline: registries.deadline.map_or(Settings::default().deadline, |it| it.duration()),
        }
    }

    /// A file that was named has to be there to be read from.
    pub(crate) fn check_authfile(&self) -> Result<(), CliError> {
        match &self.authfile {
            Some(file) if !file.exists() => {
                Err(CliError::new(format!("there is no file {} (--authfile)", file.display()))
                    .hint("`mote login --authfile FILE` makes one"))
            }
            _ => Ok(()),
        }
    }

    /// The files to look for credentials in.
    pub(crate) fn auth_files(&self, app: &App) -> Vec<PathBuf> {
        auth_files(app, self.authfile.as_ref())
    }
}

/// The files to look for credentials in: the one that was named, or mote's, podman's, docker's.
pub(crate) fn auth_files(app: &App, named: Option<&PathBuf>) -> Vec<PathBuf> {
    let environment = &app.environment;
    if let Some(file) = named.or(environment.auth_file.as_ref()) {
        return vec![file.clone()];
    }
    let home = environment.home.clone().unwrap_or_default();
    let config = environment.config_home.clone().unwrap_or_else(|| home.join(".config"));
    let docker = environment.docker_config.clone().unwrap_or_else(|| home.join(".docker"));
    let podman = environment.runtime_dir.as_ref().map(|folder| folder.join("containers/auth.json"));
    [
        Some(config.join("mote/auth.json")),
        podman,
        Some(config.join("containers/auth.json")),
        Some(docker.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The registry that a person named, perhaps as the address of a web page.
pub(crate) fn registry_name(text: &str) -> Result<String, CliError> {
    let host = text.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.trim_end_matches('/');
    Ok(format!("{host}/x").parse::<ImageRef>()?.registry().to_owned())
}
