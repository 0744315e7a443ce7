//! `mote pull`

use clap::Args;
use mote_engine::{Checks, Company};
use mote_image::{Lease, Overrides, Source, Store, Stored};

use crate::app::App;
use crate::error::CliError;
use crate::fetch::{self, PullOptions};
use crate::launch;
use crate::output;
use crate::progress::Show;

/// Pull an image, and compile its program
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// Print nothing but the digest
    #[arg(short, long)]
    quiet: bool,
    /// Do not compile yet; the first run does
    #[arg(long)]
    no_compile: bool,
    /// Images to pull
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    options: PullOptions,
}

impl PullArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let show = if self.quiet { Show::Nothing } else { Show::Progress };
        let store = app.store()?;
        let lease = store.lease()?;
        for text in &self.images {
            let stored = match text.parse::<Source>()? {
                Source::Registry(image) => fetch::pull(app, &store, &image, &self.options, show)?,
                source @ (Source::OciDir { .. }
                | Source::OciArchive(_)
                | Source::DockerArchive(_)) => self.copy(&store, &lease, &source)?,
                Source::File(path) => {
                    let hint =
                        format!("`mote import {} NAME:TAG` makes an image of it", path.display());
                    return Err(
                        CliError::new(format!("{text} is a file, and nothing to pull")).hint(hint)
                    );
                }
            };
            if !self.no_compile {
                let artifact = mote_image::open(&store, &lease, &stored, Overrides::default())?;
                launch::compiled(app, &artifact, Checks::usual(Company::Nobody), show)?;
            }
            output::line(&stored.resolved.to_string());
        }
        Ok(())
    }

    /// Copies an image from a folder or an archive, and names it.
    fn copy(&self, store: &Store, lease: &Lease, source: &Source) -> Result<Stored, CliError> {
        self.options.check_local(&source.to_string())?;
        let (stored, name) = fetch::import(store, source, self.options.platform.as_ref())?;
        let Some(name) = name else {
            return Err(CliError::new(format!("{source} does not say what its image is called"))
                .hint("give it a tag where it was made, or run it as it is with `mote run`"));
        };
        store.name(lease, &name, &stored.manifest, &stored.resolved)?;
        if !self.quiet {
            output::note(&format!("It is here as {}", name.familiar()));
        }
        Ok(Stored { name: Some(name), ..stored })
    }
}
