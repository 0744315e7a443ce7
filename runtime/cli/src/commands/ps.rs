//! `mote ps`

use std::time::Duration;

use clap::Args;
use mote_lifecycle::{Record, Status, Time};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::launch;
use crate::output::{self, ListArgs};

/// List the containers that run
///
/// These are those of `mote run` in any terminal of this user. A container of a terminal is gone when
/// it ends, and is not listed after that.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// List also what has ended; a container of a terminal is gone when it ends
    #[arg(short, long)]
    all: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
}

impl PsArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let now = Time::now();
        let records = launch::live(app)?.list()?;
        let rows: Vec<Value> =
            records.iter().rev().map(|record| row(record, now, self.no_trunc)).collect();
        let columns = [
            ("CONTAINER ID", "ID"),
            ("IMAGE", "Image"),
            ("COMMAND", "Command"),
            ("STATUS", "Status"),
            ("NAMES", "Names"),
        ];
        output::list(&self.list, &columns, "ID", &rows)
    }
}

fn row(record: &Record, now: Time, whole: bool) -> Value {
    let ran = record.started.map_or(Duration::ZERO, |started| now.since(started));
    let ran = humantime::format_duration(Duration::from_secs(ran.as_secs())).to_string();
    let (state, status) = match record.status() {
        Status::Created => ("created", "Created".to_owned()),
        Status::Running => ("running", format!("Up {ran}")),
        Status::Paused => ("paused", format!("Up {ran} (Paused)")),
        Status::Stopped(how) => ("exited", how.to_string()),
        Status::Removed => ("removed", "Removed".to_owned()),
    };
    let created = humantime::format_rfc3339_seconds(record.created.system()).to_string();
    json!({
        "ID": if whole { record.id.as_str() } else { record.id.short() },
        "Image": record.image.name,
        "Command": record.args.join(" "),
        "State": state,
        "Status": status,
        "Names": record.name.as_str(),
        "CreatedAt": created,
        "Digest": record.image.digest.to_string(),
        "Memory": record.policy.limits().memory.to_string(),
        "Cpus": record.policy.limits().cpus.to_string(),
    })
}
