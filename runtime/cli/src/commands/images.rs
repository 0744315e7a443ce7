//! `mote images`

use clap::Args;
use mote_image::{Store, Stored};
use mote_spec::ImageRef;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::output::{self, ListArgs, human_bytes};

/// List the images of this machine
#[derive(Args, Debug)]
pub(crate) struct ImagesArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Print whole digests
    #[arg(long)]
    no_trunc: bool,
    /// Only images of this repository, or of this reference
    filter: Option<String>,
}

impl ImagesArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let wanted = self.filter.as_deref().map(str::parse::<ImageRef>).transpose()?;
        let tagged = self
            .filter
            .as_deref()
            .is_some_and(|text| text.rsplit('/').next().unwrap_or(text).contains(':'));
        let matches = |image: &Stored| match (&wanted, &image.name) {
            (None, _) => true,
            (Some(wanted), Some(name)) if tagged => wanted == name,
            (Some(wanted), Some(name)) => wanted.name() == name.name(),
            (Some(_), None) => false,
        };
        let rows: Vec<Value> = store
            .images()?
            .iter()
            .rev()
            .filter(|image| matches(image))
            .map(|image| row(&store, image, self.no_trunc))
            .collect();
        let columns = [
            ("REPOSITORY", "Repository"),
            ("TAG", "Tag"),
            ("IMAGE ID", "ID"),
            ("PLATFORM", "Platform"),
            ("CREATED", "Created"),
            ("SIZE", "Size"),
        ];
        output::list(&self.list, &columns, "ID", &rows)
    }
}

fn row(store: &Store, image: &Stored, whole: bool) -> Value {
    let name = image.name.as_ref();
    let familiar = name.map(ImageRef::familiar).unwrap_or_default();
    let without_digest = familiar.split('@').next().unwrap_or_default();
    let repository = match name.and_then(ImageRef::tag) {
        Some(tag) => without_digest.strip_suffix(&format!(":{tag}")).unwrap_or(without_digest),
        None => without_digest,
    };
    let read = mote_image::read(store, &image.manifest, &familiar).ok();
    let size: u64 =
        read.iter().flat_map(|(manifest, _)| manifest.blobs()).map(|blob| blob.size).sum();
    let created = read.as_ref().and_then(|(_, config)| config.created.clone()).unwrap_or_default();
    let platform =
        read.map(|(_, config)| match (config.os.as_str(), config.architecture.as_str()) {
            ("", "") => "wasm".to_owned(),
            (os, architecture) => format!("{os}/{architecture}"),
        });
    let digest = &image.manifest.digest;
    json!({
        "ID": if whole { digest.to_string() } else { digest.short().to_owned() },
        "Repository": if name.is_some() { repository } else { "<none>" },
        "Tag": name.and_then(ImageRef::tag).unwrap_or("<none>"),
        "Digest": image.resolved.to_string(),
        "Platform": platform.unwrap_or_else(|| "damaged".to_owned()),
        // The day is enough for a table.
        "Created": created.split('T').next().unwrap_or_default(),
        "CreatedAt": created,
        "Size": human_bytes(size),
        "Bytes": size,
    })
}
