//! `mote ps`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use mote_lifecycle::{Record, Records, Status, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::client::{Client, encoded};
use crate::commands::streams::filters;
use crate::error::CliError;
use crate::launch;
use crate::output::{self, ListArgs};

/// List containers
///
/// These are those of the daemon, and of `mote run` in any terminal of this user. A container of a
/// terminal is gone when it ends.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// List also what has ended
    #[arg(short, long)]
    all: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only what matches, such as status=exited, name=web or label=tier=edge
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl PsArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let now = Time::now();
        let records = launch::live(app)?.list()?;
        let here: Vec<Value> = records
            .iter()
            .rev()
            .filter(|record| self.filter.iter().all(|filter| matches(record, filter)))
            .map(|record| row(record, now, self.no_trunc))
            .collect();
        let there = match Client::running(app) {
            Some(client) => self.of_the_daemon(&client)?,
            None => self.of_no_daemon(app, now)?,
        };
        let rows: Vec<Value> = here.into_iter().chain(there).collect();
        let columns = [
            ("CONTAINER ID", "ID"),
            ("IMAGE", "Image"),
            ("COMMAND", "Command"),
            ("STATUS", "Status"),
            ("PORTS", "Ports"),
            ("NAMES", "Names"),
        ];
        output::list(&self.list, &columns, "ID", &rows)
    }

    fn of_the_daemon(&self, client: &Client) -> Result<Vec<Value>, CliError> {
        let filters = encoded(&filters(&self.filter)?.to_string());
        let all = u8::from(self.all);
        let list: Vec<Listed> =
            client.get_as(&format!("/containers/json?all={all}&filters={filters}"))?;
        Ok(list.iter().map(|one| shown(one, self.no_trunc)).collect())
    }

    /// What is on record while no daemon looks after it.
    fn of_no_daemon(&self, app: &App, now: Time) -> Result<Vec<Value>, CliError> {
        if !self.all || !app.machine.root.join("containers.db").exists() {
            return Ok(Vec::new());
        }
        let (records, damaged) = Records::open(&app.machine.root)?.list()?;
        for (id, why) in damaged {
            output::error(&format!("the record of container {id} cannot be read: {why}"));
        }
        let row = |record: &Record| {
            let mut row = row(record, now, self.no_trunc);
            if record.status().is_live() {
                row["State"] = json!("lost");
                row["Status"] = json!("Lost (no daemon runs)");
            }
            row
        };
        Ok(records.iter().rev().map(row).collect())
    }
}

/// Whether a container of a terminal is what a filter wants. It has no labels, health or codes.
fn matches(record: &Record, filter: &str) -> bool {
    match filter.split_once('=') {
        Some(("name", name)) => record.name.as_str().contains(name),
        Some(("id", id)) => record.id.as_str().starts_with(id),
        Some(("ancestor", image)) => record.image.name == image,
        Some(("status", status)) => match record.status() {
            Status::Running => status == "running",
            Status::Paused => status == "paused",
            Status::Created | Status::Stopped(_) | Status::Removed => false,
        },
        _ => false,
    }
}

/// An entry of the daemon's list, as far as it is shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: u64,
    state: String,
    status: String,
    ports: Vec<Port>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(rename = "IP")]
    ip: String,
    private_port: u16,
    public_port: u16,
    #[serde(rename = "Type")]
    kind: String,
}

fn shown(one: &Listed, whole: bool) -> Value {
    let ports: Vec<String> = one
        .ports
        .iter()
        .map(|Port { ip, private_port, public_port, kind }| {
            format!("{ip}:{public_port}->{private_port}/{kind}")
        })
        .collect();
    let labels: Vec<String> =
        one.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let created = std::time::UNIX_EPOCH + Duration::from_secs(one.created);
    let name = one.names.first().map_or("", String::as_str);
    json!({
        "ID": if whole { one.id.as_str() } else { one.id.get(..12).unwrap_or(&one.id) },
        "Image": one.image,
        "Command": one.command,
        "State": one.state,
        "Status": one.status,
        "Ports": ports.join(", "),
        "Names": name.trim_start_matches('/'),
        "CreatedAt": humantime::format_rfc3339_seconds(created).to_string(),
        "Labels": labels.join(","),
        "Digest": one.image_id,
        "Host": "daemon",
    })
}

fn row(record: &Record, now: Time, whole: bool) -> Value {
    let ran = record.started.map_or(Duration::ZERO, |started| now.since(started));
    let ran = humantime::format_duration(Duration::from_secs(ran.as_secs())).to_string();
    let (state, status) = match record.status() {
        Status::Created => ("created", "Created".to_owned()),
        Status::Running => ("running", format!("Up {ran}")),
        Status::Paused => ("paused", format!("Up {ran} (Paused)")),
        Status::Stopped(how) => ("exited", format!("Exited ({})", how.code())),
        Status::Removed => ("removed", "Removed".to_owned()),
    };
    let created = humantime::format_rfc3339_seconds(record.created.system()).to_string();
    let ports: Vec<String> = record
        .policy
        .grants()
        .net
        .publish
        .iter()
        .map(|port| format!("{}->{}/{}", port.host, port.guest, port.protocol))
        .collect();
    json!({
        "ID": if whole { record.id.as_str() } else { record.id.short() },
        "Image": record.image.name,
        "Command": record.args.join(" "),
        "State": state,
        "Status": status,
        "Ports": ports.join(", "),
        "Names": record.name.as_str(),
        "CreatedAt": created,
        "Labels": "",
        "Digest": record.image.digest.to_string(),
        "Memory": record.policy.limits().memory.to_string(),
        "Cpus": record.policy.limits().cpus.to_string(),
        "Host": "terminal",
    })
}
