//! `mote info`

use clap::Args;
use mote_engine::ENGINE_VERSION;
use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::output;

/// Show how mote is set up on this machine
#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    /// Print by a template, such as '{{.Store.Root}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl InfoArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let ceiling = app.machine.ceiling.clone();
        let document = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Engine": { "Name": "wasmtime", "Version": ENGINE_VERSION, "Profile": app.profile().to_string() },
            "Worlds": ["wasi_snapshot_preview1", "wasi_unstable", "wasi:cli/command@0.2", "wasi:cli/command@0.3", "wasi:http (outgoing)"],
            "Store": { "Root": app.machine.root.display().to_string(), "State": app.machine.state.display().to_string(), "Images": store.images()?.len() },
            "Host": { "Arch": std::env::consts::ARCH, "Os": std::env::consts::OS, "Cpus": std::thread::available_parallelism().map_or(1, usize::from) },
            "Defaults": limits(&ceiling.defaults),
            "Ceiling": limits(&ceiling.most),
        });
        match &self.format {
            Some(_) => output::documents(self.format.as_deref(), &[document]),
            None => output::json(&document),
        }
    }
}

fn limits(limits: &mote_spec::Limits) -> serde_json::Value {
    json!({
        "Memory": limits.memory.to_string(),
        "Cpus": limits.cpus.to_string(),
        "Fuel": limits.fuel.to_string(),
        "Timeout": limits.timeout.to_string(),
        "Storage": limits.storage.to_string(),
        "NetRate": limits.net_rate.to_string(),
    })
}
