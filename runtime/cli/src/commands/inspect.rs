//! `mote inspect`

use clap::{Args, ValueEnum};
use mote_engine::{Checks, Company, Engine, Module, describe};
use mote_image::{Overrides, Store, Stored};
use mote_spec::{Asks, Bytes, ImageRef};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::fetch;
use crate::find::{self, Host};
use crate::launch;
use crate::output;
use crate::progress::Show;

/// Print all that is known about containers or images
///
/// A name is looked for among the containers first.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print by a template, such as '{{.Digest}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Look only for a container, or only for an image
    #[arg(long = "type", value_name = "KIND", value_enum)]
    kind: Option<Kind>,
    /// Names or ids of containers or images
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
}

impl InspectArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let found: Result<Vec<Value>, CliError> = self
            .names
            .iter()
            .map(|text| {
                let container = match self.kind {
                    Some(Kind::Image) => None,
                    Some(Kind::Container) | None => container(app, text)?,
                };
                match (container, self.kind) {
                    (Some(about), _) => Ok(about),
                    (None, Some(Kind::Container)) => {
                        Err(CliError::not_found(format!("no container {text} is here"))
                            .hint("`mote ps --all` lists what is here"))
                    }
                    (None, _) => about(app, &store, &fetch::find(&store, text)?),
                }
            })
            .collect();
        output::documents(self.format.as_deref(), &found?)
    }
}

/// What is known of a container of a terminal or of the daemon, if there is one of that name.
fn container(app: &App, text: &str) -> Result<Option<Value>, CliError> {
    match find::host(app, text) {
        Ok(Host::Terminal(record)) => {
            Ok(Some(serde_json::to_value(&record).expect("a record is always JSON")))
        }
        Ok(Host::Daemon(client)) => Ok(client.get(&find::path(text, "/json")).ok()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn about(app: &App, store: &Store, image: &Stored) -> Result<Value, CliError> {
    let name = image.name.as_ref().map(ImageRef::familiar).unwrap_or_default();
    let (manifest, config) = mote_image::read(store, &image.manifest, &name)?;
    let lease = store.lease()?;
    let artifact = mote_image::open(store, &lease, image, Overrides::default())?;
    let asks = Asks::from_annotations(&artifact.annotations)?;
    let code = launch::compiled(app, &artifact, Checks::usual(Company::Nobody), Show::Progress)?;
    let engine = Engine::new(app.profile(), Checks::usual(Company::Nobody), Bytes::new(512 << 10))?;
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
