//! `mote volume`

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use crate::app::App;
use crate::client::{Body, Client, encoded};
use crate::commands::each::each;
use crate::error::CliError;
use crate::output::{self, ListArgs};
use crate::template;

/// Look after named volumes, which outlive the containers that have them
#[derive(Subcommand, Debug)]
pub(crate) enum Volume {
    /// Make a volume, and print its name
    Create(CreateArgs),
    /// List volumes
    Ls(LsArgs),
    /// Remove volumes with all that is in them
    Rm(RmArgs),
    /// Print all that is known about volumes
    Inspect(InspectArgs),
    /// Remove the volumes that no container has, and print their names
    Prune,
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Names of volumes
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print by a template, such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names of volumes
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Removes the volumes that no container has, and returns their names.
pub(crate) fn prune(client: &Client) -> Result<Vec<String>, CliError> {
    let filters = encoded(r#"{"all":["true"]}"#);
    let pruned = client.post(&format!("/volumes/prune?filters={filters}"), Body::Nothing)?;
    let names = pruned["VolumesDeleted"].as_array().into_iter().flatten();
    Ok(names.map(template::text).collect())
}

impl Volume {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let client = Client::or_start(app)?;
        match self {
            Volume::Create(CreateArgs { name }) => {
                let made = client.post("/volumes/create", Body::Json(json!({ "Name": name })))?;
                output::line(&template::text(&made["Name"]));
                Ok(0)
            }
            Volume::Ls(LsArgs { list }) => {
                let volumes = client.get("/volumes")?;
                let rows: Vec<Value> = volumes["Volumes"].as_array().cloned().unwrap_or_default();
                let columns = [("VOLUME NAME", "Name"), ("MOUNTPOINT", "Mountpoint")];
                output::list(&list, &columns, "Name", &rows).map(|()| 0)
            }
            Volume::Rm(RmArgs { volumes }) => each(&volumes, |volume| {
                let path = format!("/volumes/{}", encoded(volume));
                client.call(Method::DELETE, &path, Body::Nothing)?;
                Ok(volume.to_owned())
            }),
            Volume::Prune => {
                for name in prune(&client)? {
                    output::line(&name);
                }
                Ok(0)
            }
            Volume::Inspect(InspectArgs { format, volumes }) => {
                let about = |volume: &String| client.get(&format!("/volumes/{}", encoded(volume)));
                let documents: Result<Vec<Value>, CliError> = volumes.iter().map(about).collect();
                output::documents(format.as_deref(), &documents?).map(|()| 0)
            }
        }
    }
}
