//! `mote version`

use clap::Args;
use mote_engine::ENGINE_VERSION;
use serde_json::json;

use crate::error::CliError;
use crate::output;

/// Show the versions of mote and its engine
#[derive(Args, Debug)]
pub(crate) struct VersionArgs {
    /// Print by a template, such as '{{.Version}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl VersionArgs {
    pub(crate) fn exec(self) -> Result<(), CliError> {
        let version = env!("CARGO_PKG_VERSION");
        if self.format.is_some() {
            let document =
                json!({ "Version": version, "Engine": format!("wasmtime {ENGINE_VERSION}") });
            return output::documents(self.format.as_deref(), &[document]);
        }
        output::line(&format!("mote {version} (wasmtime {ENGINE_VERSION})"));
        Ok(())
    }
}
