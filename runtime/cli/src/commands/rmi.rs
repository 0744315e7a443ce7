//! `mote rmi`

use std::sync::Arc;

use clap::Args;
use hyper::Method;
use mote_daemon::{Force, Images, Removed};
use mote_lifecycle::Records;

use crate::app::App;
use crate::client::{Body, Client, encoded};
use crate::error::CliError;
use crate::output;
use crate::template;

/// Remove images, and what only they need
///
/// An image stays while a container of the daemon is made of it.
#[derive(Args, Debug)]
pub(crate) struct RmiArgs {
    /// Remove every image
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Remove also all names of an id, and what stopped containers are made of; and do not mind
    /// images that are not here
    #[arg(short, long)]
    force: bool,
    /// Names or ids of images; --all stands for every one
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

impl RmiArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let RmiArgs { all, force, images: mut names } = self;
        if all {
            let images = app.store()?.images()?;
            names.extend(images.into_iter().map(|image| match image.name {
                Some(name) => name.familiar(),
                None => image.manifest.digest.to_string(),
            }));
        }
        let mut failed = 0;
        for name in &names {
            match remove(app, name, force) {
                Ok(lines) => lines.iter().for_each(|line| output::line(line)),
                Err(error) if force && error.is_not_found() => {}
                Err(error) => {
                    output::error(&error.to_string());
                    failed = 1;
                }
            }
        }
        Ok(failed)
    }
}

/// Removes an image, and says what was done. A daemon that runs has to know of it.
fn remove(app: &App, name: &str, force: bool) -> Result<Vec<String>, CliError> {
    if name.is_empty() {
        return Err(CliError::new("the name of an image is empty"));
    }
    if let Some(client) = Client::running(app) {
        let path = format!("/images/{}?force={}", encoded(name), u8::from(force));
        let done = client.call(Method::DELETE, &path, Body::Nothing)?;
        let all = done.as_array().into_iter().flatten();
        let pairs = all.filter_map(|one| one.as_object()).flatten();
        return Ok(pairs.map(|(what, name)| format!("{what}: {}", template::text(name))).collect());
    }
    let containers = match app.machine.root.join("containers.db").exists() {
        true => Records::open(&app.machine.root)?.list()?.0.into_iter().map(Arc::new).collect(),
        false => Vec::new(),
    };
    let force = if force { Force::Yes } else { Force::No };
    let removed = Images::new(&app.machine, containers)?.remove(name, force)?;
    let said = removed.iter().map(|one| match one {
        Removed::Untagged(name) => format!("Untagged: {name}"),
        Removed::Deleted(id) => format!("Deleted: {id}"),
    });
    Ok(said.collect())
}
