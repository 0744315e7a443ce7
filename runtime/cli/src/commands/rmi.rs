//! `mote rmi`

use std::collections::HashSet;

use clap::Args;
use mote_image::{Overrides, Store, Stored};

use crate::app::App;
use crate::error::CliError;
use crate::fetch;
use crate::output;

/// Remove images, and what only they need
#[derive(Args, Debug)]
pub(crate) struct RmiArgs {
    /// Remove every image
    #[arg(short, long)]
    all: bool,
    /// Do not mind images that are not here
    #[arg(short, long)]
    force: bool,
    /// Names or ids of images
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

impl RmiArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let store = app.store()?;
        let mut failed = false;
        let mut doomed: Vec<Stored> = if self.all { store.images()? } else { Vec::new() };
        for text in &self.images {
            match fetch::find(&store, text) {
                Ok(image) => doomed.push(image),
                Err(_) if self.force => {}
                Err(error) => {
                    output::error(&error.to_string());
                    failed = true;
                }
            }
        }
        for image in doomed {
            if let Some(name) = &image.name {
                store.unname(name)?;
                output::line(&format!("Untagged: {}", name.familiar()));
            }
        }
        store.sweep()?;
        forget_code(app, &store)?;
        Ok(if failed { 1 } else { 0 })
    }
}

/// Removes the compiled code of programs that no image holds any more.
fn forget_code(app: &App, store: &Store) -> Result<(), CliError> {
    let mut kept = HashSet::new();
    for image in store.images()? {
        match mote_image::open(store, &image, Overrides::default()) {
            Ok(artifact) => drop(kept.insert(artifact.code.digest().hex().to_owned())),
            // What it holds is not known, so nothing is taken away.
            Err(_) => return Ok(()),
        }
    }
    app.cache()?.retain(|program| kept.contains(program))?;
    Ok(())
}
