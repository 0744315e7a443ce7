//! What every verb works with: folders, configuration, the store and the code cache.

use std::path::PathBuf;

use clap::Args;
use mote_daemon::Machine;
use mote_engine::{Cache, CompileIn, Profile, Programs, WorkIn, machine_memory};
use mote_image::Store;

use crate::config::Config;
use crate::environment::Environment;
use crate::error::CliError;

/// Options that every verb has
#[derive(Args, Debug)]
pub(crate) struct Globals {
    /// Folder of images and compiled programs [env: MOTE_ROOT]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    root: Option<PathBuf>,
    /// Folder of what lasts until the next boot [env: MOTE_STATE]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    state: Option<PathBuf>,
    /// Configuration file to read instead of the usual ones
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
    /// How the engine uses the machine: micro, gateway or server [default: what the machine bears]
    #[arg(long, global = true, value_name = "PROFILE", help_heading = "Global options")]
    profile: Option<Profile>,
}

impl Globals {
    /// Folders of one's own below another, and no configuration.
    pub(crate) fn below(folder: &std::path::Path) -> Globals {
        Globals {
            root: Some(folder.join("root")),
            state: Some(folder.join("state")),
            config: None,
            profile: None,
        }
    }
}

pub(crate) struct App {
    pub(crate) machine: Machine,
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    /// The configuration file that was named, for a daemon that is started.
    pub(crate) configured: Option<PathBuf>,
}

impl App {
    pub(crate) fn new(globals: &Globals) -> Result<App, CliError> {
        let environment = Environment::read();
        let (root, state, mut files) = folders(&environment);
        if let Some(file) = &globals.config {
            if !file.exists() {
                return Err(CliError::not_found(format!(
                    "there is no configuration file {}",
                    file.display()
                )));
            }
            files = vec![file.clone()];
        }
        let config = Config::read(&files)?;
        let profile = profile(globals.profile, config.profile()?)?;
        let machine = Machine {
            root: whole(globals.root.clone().or_else(|| environment.root.clone()).unwrap_or(root)),
            state: whole(
                globals.state.clone().or_else(|| environment.state.clone()).unwrap_or(state),
            ),
            profile,
            ceiling: config.ceiling(machine_memory()),
            compile_in: compile_in(),
            compile_timeout: config.compile_timeout(),
            work_in: work_in(),
        };
        Ok(App { machine, config, environment, configured: globals.config.clone().map(whole) })
    }

    pub(crate) fn store(&self) -> Result<Store, CliError> {
        Ok(self.machine.store()?)
    }

    pub(crate) fn cache(&self) -> Result<Cache, CliError> {
        Ok(self.machine.cache()?)
    }

    /// The profile to run with.
    pub(crate) fn profile(&self) -> Profile {
        self.machine.profile
    }
}

/// A path that says the same wherever it is read, such as in a unit of systemd.
fn whole(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// This program, as it is started anew: also once its file was replaced.
pub(crate) fn programs() -> Programs {
    let args = |verb: &str| vec![verb.to_owned()];
    Programs {
        program: "/proc/self/exe".into(),
        compiler: args("compile-worker"),
        guest: args("guest-worker"),
        spawner: args("spawner"),
    }
}

/// Programs are compiled in a child process, whose memory is bounded.
fn compile_in() -> CompileIn {
    let Programs { program, compiler: args, .. } = programs();
    CompileIn::Child { program, args }
}

/// What is started for a guest that has a process of its own.
fn work_in() -> WorkIn {
    let Programs { program, guest: args, .. } = programs();
    WorkIn::Child { program, args }
}

/// The profile that a flag names has to fit; a configured one, which may have been written for many
/// machines, gives way to the small one.
fn profile(flag: Option<Profile>, configured: Option<Profile>) -> Result<Profile, CliError> {
    match (flag, configured) {
        (Some(flag), _) if !flag.fits() => {
            let message = format!("this machine has not the address space for the {flag} profile");
            Err(CliError::new(message).hint("--profile micro runs everywhere"))
        }
        (Some(profile), _) => Ok(profile),
        (None, Some(profile)) => Ok(if profile.fits() { profile } else { Profile::Micro }),
        (None, None) => Ok(Profile::detect()),
    }
}

/// The usual folders: the system's for root, one's own for everybody else.
fn folders(environment: &Environment) -> (PathBuf, PathBuf, Vec<PathBuf>) {
    let system = PathBuf::from("/etc/mote/config.toml");
    if rustix::process::geteuid().is_root() {
        return ("/var/lib/mote".into(), "/run/mote".into(), vec![system]);
    }
    let home = environment.home.clone().unwrap_or_else(|| "/".into());
    let data = environment.data_home.clone().unwrap_or_else(|| home.join(".local/share"));
    let config = environment.config_home.clone().unwrap_or_else(|| home.join(".config"));
    // Never below /tmp, where others could be first.
    let state = environment.runtime_dir.clone().unwrap_or_else(|| data.join("mote/state"));
    (data.join("mote"), state.join("mote"), vec![config.join("mote/config.toml"), system])
}
