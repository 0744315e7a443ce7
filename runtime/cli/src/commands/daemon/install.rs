//! `mote daemon install`

use std::path::{Path, PathBuf};

use clap::Args;

use super::wrote;
use crate::app::App;
use crate::error::CliError;
use crate::output;

/// Write units for systemd: the daemon starts at boot, or with the first command
///
/// As root they are the system's; else one's own, which `systemctl --user` looks after.
#[derive(Args, Debug)]
pub(crate) struct InstallArgs {
    /// Folder to write the units to, instead of systemd's own
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Print the units, and write nothing
    #[arg(long)]
    print: bool,
}

const SOCKET: &str = "[Unit]
Description=mote: API socket

[Socket]
ListenStream=@SOCKET@
SocketMode=0660

[Install]
WantedBy=sockets.target
";

const SERVICE: &str = "[Unit]
Description=mote: WebAssembly containers
Requires=mote.socket
After=mote.socket network.target

[Service]
Type=notify
ExecStart=@COMMAND@
Restart=on-failure
# The event loop tells every half of it that it turns.
WatchdogSec=30
# Containers end with the daemon, which records how.
TimeoutStopSec=30
KillMode=mixed
LimitNOFILE=infinity
NoNewPrivileges=true
ProtectKernelModules=true
ProtectKernelTunables=true
# Processes of guests have cgroups of their own.
Delegate=memory pids
RestrictRealtime=true
LockPersonality=true

[Install]
WantedBy=@TARGET@
Also=mote.socket
";

impl InstallArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let root = rustix::process::geteuid().is_root();
        let target = if root { "multi-user.target" } else { "default.target" };
        let socket = super::socket(app);
        let command = command(app)?;
        let fill = |text: &str| {
            text.replace("@SOCKET@", &socket.display().to_string().replace('%', "%%"))
                .replace("@COMMAND@", &command)
                .replace("@TARGET@", target)
        };
        let units = [("mote.socket", fill(SOCKET)), ("mote.service", fill(SERVICE))];
        if self.print {
            for (name, text) in units {
                output::line(&format!("# {name}\n{text}"));
            }
            return Ok(());
        }
        let elsewhere = self.to.is_some();
        let folder = self.to.unwrap_or_else(|| usual_folder(app, root));
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        for (name, text) in units {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
            wrote(&path);
        }
        if elsewhere {
            // systemd does not look there; whoever named the place knows what it is for.
            return Ok(());
        }
        let user = if root { "" } else { " --user" };
        output::line(&format!(
            "now: systemctl{user} daemon-reload && systemctl{user} enable --now mote.socket mote.service"
        ));
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(format!("cannot write {}: {error}", path.display()))
        .hint("name another folder with --to DIR, or see them with --print")
}

/// This very program, with the folders that it works on.
fn command(app: &App) -> Result<String, CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::new(format!("cannot find this program: {error}")))?;
    // As systemd.service(5) reads command lines.
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        format!("\"{}\"", text.replace('$', "$$"))
    };
    let config = app.configured.as_deref().map(|path| format!(" --config {}", quoted(path)));
    Ok(format!(
        "{} --root {} --state {}{} daemon",
        quoted(&program),
        quoted(&app.machine.root),
        quoted(&app.machine.state),
        config.unwrap_or_default()
    ))
}

fn usual_folder(app: &App, root: bool) -> PathBuf {
    if root {
        return "/etc/systemd/system".into();
    }
    let home = app.environment.home.clone().unwrap_or_else(|| "/".into());
    let config = app.environment.config_home.clone().unwrap_or_else(|| home.join(".config"));
    config.join("systemd/user")
}
