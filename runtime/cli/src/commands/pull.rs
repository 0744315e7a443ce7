//! `mote pull`

use clap::Args;
use mote_engine::Counting;
use mote_image::{Overrides, Source, archive};

use crate::app::App;
use crate::error::CliError;
use crate::fetch::{self, PullOptions};
use crate::launch;
use crate::output;
use crate::progress::Show;

/// Pull an image, and compile its program
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    options: PullOptions,
    /// Print nothing but the digest
    #[arg(short, long)]
    quiet: bool,
    /// Do not compile yet; the first run does
    #[arg(long)]
    no_compile: bool,
    /// Images to pull
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl PullArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let show = if self.quiet { Show::Nothing } else { Show::Progress };
        let store = app.store()?;
        let _lease = store.lease()?;
        for text in &self.images {
            let stored = match text.parse::<Source>()? {
                Source::Registry(image) => fetch::pull(app, &store, &image, &self.options, show)?,
                Source::OciDir { path, tag } => {
                    archive::import_oci_dir(&store, &path, tag.as_deref())?
                }
                Source::OciArchive(path) => archive::import_oci_archive(&store, &path)?,
                Source::DockerArchive(path) => archive::import_docker_archive(&store, &path)?,
                Source::File(path) => {
                    let hint =
                        format!("`mote import {} NAME:TAG` makes an image of it", path.display());
                    return Err(
                        CliError::new(format!("{text} is a file, and nothing to pull")).hint(hint)
                    );
                }
            };
            if !self.no_compile {
                let artifact = mote_image::open(&store, &stored, Overrides::default())?;
                launch::compiled(app, &artifact, Counting::Off, show)?;
            }
            output::line(&stored.resolved.to_string());
        }
        Ok(())
    }
}
