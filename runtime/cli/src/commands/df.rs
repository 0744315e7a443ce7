//! `mote system df`

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::output::{self, ListArgs, human_bytes};
use mote_daemon::scratch;

/// Show what takes space on the disk
#[derive(Args, Debug)]
pub(crate) struct DfArgs {
    #[command(flatten)]
    list: ListArgs,
}

impl DfArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let (blobs, trees) = store.usage()?;
        let compiled = app.cache()?.usage();
        let below = |folder: &str| app.machine.root.join(folder);
        let row = |kind: &str, total: usize, bytes: u64| json!({ "Type": kind, "Total": total, "Size": human_bytes(bytes), "Bytes": bytes });
        let rows = [
            row("Images", store.images()?.len(), blobs),
            row("Unpacked files", 0, trees),
            row("Compiled programs", 0, compiled),
            row("Scratch space", 0, scratch::bytes(&app.machine.root)),
            row("Volumes", entries(&below("volumes")), mote_image::bytes_below(&below("volumes"))),
            row("Logs", 0, mote_image::bytes_below(&below("logs"))),
        ];
        output::list(&self.list, &[("TYPE", "Type"), ("SIZE", "Size")], "Type", &rows)
    }
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}
