//! `mote port`

use clap::Args;

use crate::app::App;
use crate::error::CliError;
use crate::find;
use crate::output;
use crate::template;

/// Show the ports that a container listens on, and what of the host leads to them
#[derive(Args, Debug)]
pub(crate) struct PortArgs {
    /// Name or id of the container
    container: String,
    /// Only this port of the container, such as 80 or 53/udp
    port: Option<String>,
}

impl PortArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let client = find::daemon(app, &self.container)?;
        let about = client.get(&find::path(&self.container, "/json"))?;
        let wanted =
            self.port.map(|port| if port.contains('/') { port } else { format!("{port}/tcp") });
        let ports = about["NetworkSettings"]["Ports"].as_object();
        let mut found = false;
        for (inner, bindings) in ports.into_iter().flatten() {
            if wanted.as_ref().is_some_and(|wanted| wanted != inner) {
                continue;
            }
            for binding in bindings.as_array().into_iter().flatten() {
                let text = |key: &str| template::text(&binding[key]);
                let outer = format!("{}:{}", text("HostIp"), text("HostPort"));
                let line = if wanted.is_some() { outer } else { format!("{inner} -> {outer}") };
                output::line(&line);
                found = true;
            }
        }
        match wanted.filter(|_| !found) {
            Some(port) => Err(CliError::not_found(format!("no published port {port}"))),
            None => Ok(()),
        }
    }
}
