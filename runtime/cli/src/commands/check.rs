//! `mote system check`

use clap::Args;

use mote_image::Repaired;
use mote_spec::ImageRef;

use crate::app::App;
use crate::error::CliError;
use crate::output;
use mote_daemon::scratch;

/// Look for damage in the store, and mend it
///
/// Exit codes: 0 nothing was found, or all was mended; 1 something was found.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Remove what is damaged, so that the next pull brings it whole; and what killed containers left
    #[arg(short, long)]
    repair: bool,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

impl CheckArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let store = app.store()?;
        let problems = store.check()?;
        if !self.quiet {
            problems.iter().for_each(|problem| output::line(&problem.to_string()));
        }
        if !self.repair {
            if problems.is_empty() {
                return Ok(0);
            }
            if !self.quiet {
                let found = output::count(problems.len(), "problem");
                output::note(&format!(
                    "{found}; `mote system check --repair` mends what can be mended"
                ));
            }
            return Ok(1);
        }
        if !problems.is_empty() {
            tell(&store.repair(&problems)?);
        }
        store.sweep()?;
        scratch::clean(&app.machine.root)?;
        match store.check()?.len() {
            0 => {
                if !problems.is_empty() && !self.quiet {
                    output::note(&format!("{} mended", output::count(problems.len(), "problem")));
                }
                Ok(0)
            }
            left => Err(CliError::new(format!("{} left", output::count(left, "problem")))
                .hint("end the containers that use damaged files, and repair again")),
        }
    }
}

/// Says what mending cost, and what to do about it.
fn tell(repaired: &Repaired) {
    for image in &repaired.dropped {
        match &image.name {
            Some(name) => output::note(&format!(
                "image {name} is gone: `mote pull {name}` brings it back, or import or load it again",
                name = ImageRef::familiar(name)
            )),
            None => output::note(&format!("image {} is gone", image.manifest.digest.short())),
        }
    }
    for image in &repaired.nameless {
        let id = image.manifest.digest.short();
        output::note(&format!("image {id} has lost its name: `mote tag {id} NAME` gives it one"));
    }
}
