//! `mote ps`

use std::time::Duration;

use clap::Args;
use mote_lifecycle::{Record, Records, Status, Time};
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
        let here: Vec<Value> = match self.filter.as_slice() {
            [] => {
                let records = launch::live(app)?.list()?;
                records.iter().rev().map(|record| row(record, now, self.no_trunc)).collect()
            }
            // What runs in terminals has no labels, health or codes to be filtered by.
            _ => Vec::new(),
        };
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
        let list = client.get(&format!("/containers/json?all={all}&filters={filters}"))?;
        let list = list.as_array().cloned().unwrap_or_default();
        Ok(list.iter().map(|one| shown(one, self.no_trunc)).collect())
    }

    /// What is on record while no daemon looks after it.
    fn of_no_daemon(&self, app: &App, now: Time) -> Result<Vec<Value>, CliError> {
        if !self.all || !app.machine.root.join("containers.db").exists() {
            return Ok(Vec::new());
        }
        let (records, damaged) = Records::open(&app.machine.root)?.list()?;
        for error in damaged {
            output::error(&error.to_string());
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

/// An entry of the daemon's list.
fn shown(one: &Value, whole: bool) -> Value {
    let id = output::text(&one["Id"]);
    let name = output::text(&one["Names"][0]);
    let ports = one["Ports"].as_array().into_iter().flatten().map(|port| {
        let text = |key: &str| output::text(&port[key]);
        format!("{}:{}->{}/{}", text("IP"), text("PublicPort"), text("PrivatePort"), text("Type"))
    });
    let labels = one["Labels"].as_object().into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", output::text(value))).collect();
    let created = one["Created"].as_u64().unwrap_or(0);
    let created = std::time::UNIX_EPOCH + Duration::from_secs(created);
    json!({
        "ID": if whole { id.as_str() } else { id.get(..12).unwrap_or(&id) },
        "Image": one["Image"],
        "Command": one["Command"],
        "State": one["State"],
        "Status": one["Status"],
        "Ports": ports.collect::<Vec<_>>().join(", "),
        "Names": name.trim_start_matches('/'),
        "CreatedAt": humantime::format_rfc3339_seconds(created).to_string(),
        "Labels": labels.join(","),
        "Digest": one["ImageID"],
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
