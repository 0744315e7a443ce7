//! `mote history`

use clap::Args;
use mote_spec::ImageRef;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::fetch;
use crate::output::{self, ListArgs, human_bytes};

/// Show the layers of an image, the newest first
#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Name or id of the image
    image: String,
}

impl HistoryArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let store = app.store()?;
        let image = fetch::find(&store, &self.image)?;
        let name = image.name.as_ref().map(ImageRef::familiar).unwrap_or_default();
        let (manifest, config) = mote_image::read(&store, &image.manifest, &name)?;
        let mut layers = manifest.layers.iter();
        let row = |created: &str, by: &str, layer: Option<&mote_image::manifest::Descriptor>| {
            json!({
                "ID": layer.map_or("<missing>", |layer| layer.digest.short()),
                "Created": created,
                "CreatedBy": by,
                "Size": human_bytes(layer.map_or(0, |layer| layer.size)),
                "MediaType": layer.map_or("", |layer| layer.media_type.as_str()),
            })
        };
        let mut rows: Vec<Value> = config
            .history
            .iter()
            .map(|step| {
                let layer = if step.empty_layer { None } else { layers.next() };
                row(
                    step.created.as_deref().unwrap_or_default(),
                    step.created_by.as_deref().unwrap_or_default(),
                    layer,
                )
            })
            .collect();
        // What the history does not tell of is there all the same.
        rows.extend(
            layers.map(|layer| row(config.created.as_deref().unwrap_or_default(), "", Some(layer))),
        );
        rows.reverse();
        let columns = [
            ("ID", "ID"),
            ("CREATED", "Created"),
            ("CREATED BY", "CreatedBy"),
            ("SIZE", "Size"),
            ("TYPE", "MediaType"),
        ];
        output::list(&self.list, &columns, "ID", &rows)
    }
}
