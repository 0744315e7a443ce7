//! `mote shim`

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::error::CliError;
use crate::output;

/// Run Wasm under containerd and Kubernetes
#[derive(Subcommand, Debug)]
pub(crate) enum Shim {
    Install(InstallArgs),
}

/// Copy the shim and mote to where containerd finds them, and show containerd's configuration
///
/// The shim is `containerd-shim-mote-v1`, which is looked for beside this program; mote compiles for
/// it. With --apply the runtime is added to containerd's configuration, which is kept beside it as it
/// was; containerd reads it when it is started again. `ctr` needs no configuration.
#[derive(Args, Debug)]
pub(crate) struct InstallArgs {
    /// Folder of containerd's PATH
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    to: PathBuf,
    /// Add the runtime to containerd's configuration
    #[arg(long)]
    apply: bool,
    /// containerd's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    containerd_config: PathBuf,
}

const SHIM: &str = "containerd-shim-mote-v1";

const CLASS: &str = include_str!("../../../../examples/kubernetes/runtimeclass.yaml");

impl Shim {
    pub(crate) fn exec(self) -> Result<(), CliError> {
        let Shim::Install(install) = self;
        install.exec()
    }
}

impl InstallArgs {
    fn exec(self) -> Result<(), CliError> {
        let mote = std::env::current_exe()
            .map_err(|error| CliError::new(format!("cannot find this program: {error}")))?;
        let shim = mote.with_file_name(SHIM);
        if !shim.exists() {
            let message = format!("{} is not there", shim.display());
            return Err(CliError::not_found(message)
                .hint("`cargo build --release -p mote-shim` makes it beside mote"));
        }
        // Before anything is written: a configuration that is wrong stays alone.
        let runtime = runtime(&self.containerd_config)?;
        std::fs::create_dir_all(&self.to).map_err(|error| failed(&self.to, &error))?;
        for (program, name) in [(&shim, SHIM), (&mote, "mote")] {
            let target = self.to.join(name);
            copy(program, &target).map_err(|error| failed(&target, &error))?;
            output::line(&format!("wrote {}", target.display()));
        }
        match self.apply {
            true => add(&self.containerd_config, &runtime)?,
            false => output::line(&format!(
                "\nfor Kubernetes, in {} (or with --apply):\n\n{runtime}",
                self.containerd_config.display()
            )),
        }
        output::line(&format!("and in the cluster, by `kubectl apply -f -`:\n\n{CLASS}"));
        Ok(())
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("cannot write {}: {error}", path.display()))
        .hint("run as root, or name another folder with --to DIR")
}

/// Copies a program so that whoever starts it meanwhile has the old one or the new one.
fn copy(program: &Path, target: &Path) -> io::Result<()> {
    if target.canonicalize().is_ok_and(|target| target == *program) {
        return Ok(());
    }
    let draft = target.with_extension("new");
    std::fs::copy(program, &draft)?;
    std::fs::set_permissions(&draft, Permissions::from_mode(0o755))?;
    File::open(&draft)?.sync_all()?;
    std::fs::rename(&draft, target)
}

/// The table of the runtime, as the version of a configuration names it (containerd's `docs/cri/config.md`).
fn runtime(config: &Path) -> Result<String, CliError> {
    let plugin = match version(config)? {
        3.. => "io.containerd.cri.v1.runtime",
        2 => "io.containerd.grpc.v1.cri",
        old => {
            let message =
                format!("{} is of version {old}, and knows no such runtime", config.display());
            return Err(CliError::new(message)
                .hint("`containerd config default` prints a newer one; `ctr` needs none of this"));
        }
    };
    // A list of runtimes that has one is whole: the usual one is no longer there of itself.
    let text = std::fs::read_to_string(config).unwrap_or_default();
    let usual = match text.contains(".containerd.runtimes.runc]") {
        true => String::new(),
        false => format!(
            "[plugins.\"{plugin}\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n"
        ),
    };
    Ok(format!(
        "{usual}[plugins.\"{plugin}\".containerd.runtimes.mote]\n  runtime_type = \"io.containerd.mote.v1\"\n  pod_annotations = [\"io.mote.*\"]\n  container_annotations = [\"io.mote.*\"]\n"
    ))
}

/// The version of a configuration; where there is none, what a new one of this containerd has.
fn version(config: &Path) -> Result<i64, CliError> {
    match std::fs::read_to_string(config) {
        Ok(text) => {
            let parsed: toml::Table = text.parse().map_err(|error| {
                CliError::new(format!("{} is no TOML: {error}", config.display()))
            })?;
            Ok(parsed.get("version").and_then(toml::Value::as_integer).unwrap_or(1))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(newest()),
        Err(error) => Err(CliError::new(format!("cannot read {}: {error}", config.display()))),
    }
}

/// containerd 2 writes version 3, and older ones version 2.
fn newest() -> i64 {
    let said = std::process::Command::new("containerd").arg("--version").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    match said.is_ok_and(|said| said.contains(" v2.") || said.contains(" 2.")) {
        true => 3,
        false => 2,
    }
}

/// Adds a runtime to a configuration, unless it is there.
fn add(config: &Path, runtime: &str) -> Result<(), CliError> {
    let write = |error: io::Error| failed(config, &error);
    let before = match std::fs::read_to_string(config) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("version = {}\n", newest())
        }
        Err(error) => return Err(write(error)),
    };
    if before.contains(".containerd.runtimes.mote]") {
        output::line(&format!("{} has the runtime already", config.display()));
        return Ok(());
    }
    let after = format!("{}\n\n{runtime}", before.trim_end());
    // A table that is there twice, in whatever way it is written, is an error of TOML.
    if let Err(error) = after.parse::<toml::Table>() {
        let message = format!("the runtime cannot be added to {}: {error}", config.display());
        return Err(CliError::new(message).hint("leave --apply out, and add what is shown by hand"));
    }
    if before.contains("disabled_plugins") && before.contains("\"cri\"") {
        let message = format!("{} turns Kubernetes' interface off", config.display());
        return Err(CliError::new(message).hint("take \"cri\" out of disabled_plugins first"));
    }
    if let Some(folder) = config.parent() {
        std::fs::create_dir_all(folder).map_err(write)?;
    }
    // The file that it is, where the name is a link.
    let real = config.canonicalize().unwrap_or_else(|_| config.to_owned());
    let draft = real.with_added_extension("new");
    if real.exists() {
        // It may hold passwords: the copies are for the same eyes.
        std::fs::copy(&real, real.with_added_extension("before-mote")).map_err(write)?;
        std::fs::copy(&real, &draft).map_err(write)?;
    }
    std::fs::write(&draft, after).map_err(write)?;
    File::open(&draft).and_then(|draft| draft.sync_all()).map_err(write)?;
    std::fs::rename(&draft, &real).map_err(write)?;
    output::line(&format!("wrote {}: start containerd again", config.display()));
    Ok(())
}
