//! `mote rmi`

use std::collections::HashSet;

use clap::Args;
use mote_image::{Store, Stored};
use mote_spec::{Digest, ImageRef};

use crate::app::App;
use crate::error::CliError;
use crate::output;

/// Remove images, and what only they need
#[derive(Args, Debug)]
pub(crate) struct RmiArgs {
    /// Remove every image
    #[arg(short, long)]
    all: bool,
    /// Do not mind images that are not here, and remove all names of an id
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
            match self.named(&store, text) {
                Ok(images) => doomed.extend(images),
                Err(error) => {
                    output::error(&error.to_string());
                    failed = true;
                }
            }
        }
        for image in doomed {
            store.forget(&image)?;
            match &image.name {
                Some(name) => output::line(&format!("Untagged: {}", name.familiar())),
                None => output::line(&format!("Deleted: {}", image.manifest.digest)),
            }
        }
        store.sweep()?;
        if let Some(programs) = store.programs()? {
            let kept: HashSet<&str> = programs.iter().map(Digest::hex).collect();
            app.cache()?.retain(|program| kept.contains(program))?;
        }
        Ok(if failed { 1 } else { 0 })
    }

    /// The images that a text names. An id stands for all names of its image, which takes `--force`.
    fn named(&self, store: &Store, text: &str) -> Result<Vec<Stored>, CliError> {
        let images = store.known(text, 4)?;
        match images.as_slice() {
            [] if self.force => Ok(images),
            [] => Err(CliError::not_found(format!("no image {text} is here"))),
            [_] => Ok(images),
            [first, rest @ ..] if rest.iter().all(|other| other.manifest == first.manifest) => {
                match self.force {
                    true => Ok(images),
                    false => Err(CliError::new(format!(
                        "{text} has several names: {}",
                        images
                            .iter()
                            .filter_map(|image| image.name.as_ref())
                            .map(ImageRef::familiar)
                            .collect::<Vec<_>>()
                            .join(", ")
                    ))
                    .hint("remove one by its name, or all with --force")),
                }
            }
            _ => {
                Err(CliError::new(format!("{text} could be several images; write more of its id")))
            }
        }
    }
}
