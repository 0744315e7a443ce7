//! What the shim asks of an image that containerd has pulled and that holds no files.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use mote_spec::Digest;

use crate::containerd::Containerd;
use crate::error::CliError;
use crate::fetch::block_on;
use crate::output;

/// Tell of the program of a container's image; for the shim
#[derive(Args, Debug)]
pub(crate) struct ContainerdProgramArgs {
    /// containerd's socket
    #[arg(long)]
    address: PathBuf,
    #[arg(long)]
    namespace: String,
    /// Print the program of this digest instead
    #[arg(long)]
    digest: Option<Digest>,
    container: String,
}

impl ContainerdProgramArgs {
    pub(crate) fn exec(self) -> Result<(), CliError> {
        block_on(async {
            let mut containerd = Containerd::connect(&self.address, &self.namespace).await?;
            if let Some(digest) = &self.digest {
                let bytes = containerd.content(digest).await?;
                let written = std::io::stdout().write_all(&bytes);
                return written.map_err(|error| CliError::new(format!("cannot print it: {error}")));
            }
            let program = containerd.program(&self.container).await?;
            let told = serde_json::json!({
                "digest": program.digest.to_string(),
                "title": program.title,
                "entrypoint": program.entrypoint,
            });
            output::line(&told.to_string());
            Ok(())
        })?
    }
}
