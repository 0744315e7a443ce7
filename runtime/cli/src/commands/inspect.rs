//! `mote inspect`

use clap::Args;
use mote_engine::{Counting, Engine, Module, describe};
use mote_image::{Overrides, Store, Stored};
use mote_spec::{Asks, Bytes, ImageRef};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::fetch;
use crate::launch;
use crate::output;
use crate::progress::Show;

/// Print all that is known about images
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print by a template, such as '{{.Digest}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl InspectArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let images: Result<Vec<Value>, CliError> = self
            .images
            .iter()
            .map(|text| about(app, &store, &fetch::find(&store, text)?))
            .collect();
        output::documents(self.format.as_deref(), &images?)
    }
}

fn about(app: &App, store: &Store, image: &Stored) -> Result<Value, CliError> {
    let name = image.name.as_ref().map(ImageRef::familiar).unwrap_or_default();
    let (manifest, config) = mote_image::read(store, &image.manifest, &name)?;
    let lease = store.lease()?;
    let artifact = mote_image::open(store, &lease, image, Overrides::default())?;
    let asks = Asks::from_annotations(&artifact.annotations)?;
    let code = launch::compiled(app, &artifact, Counting::Off, Show::Progress)?;
    let engine = Engine::new(app.profile(), Counting::Off, Bytes::new(512 << 10))?;
    let program = describe(&engine, &Module::load(&engine, &code)?)?;
    let same: Vec<Stored> = store
        .images()?
        .into_iter()
        .filter(|other| other.manifest.digest == image.manifest.digest)
        .collect();
    let names = same.iter().filter_map(|other| other.name.as_ref());
    Ok(json!({
        "Id": image.manifest.digest.to_string(),
        "RepoTags": names.clone().map(ImageRef::familiar).collect::<Vec<_>>(),
        "RepoDigests": names.map(|name| format!("{}@{}", name.name(), image.resolved)).collect::<Vec<_>>(),
        "Digest": image.resolved.to_string(),
        "MediaType": image.manifest.media_type,
        "Created": config.created,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": manifest.blobs().map(|blob| blob.size).sum::<u64>(),
        "Config": config.config,
        "Annotations": manifest.annotations,
        "Layers": manifest.layers,
        "Program": {
            "Digest": artifact.code.digest().to_string(),
            "Kind": format!("{:?}", program.kind).to_lowercase(),
            "World": format!("{:?}", program.world).to_lowercase(),
            "Args": artifact.args,
            "Imports": program.imports,
            "Exports": program.exports,
            "MemoryAtStart": program.memory_at_start.get(),
        },
        "Asks": asks.to_annotations(),
    }))
}
