//! `mote stats`

use std::time::{Duration, Instant};

use clap::Args;
use mote_lifecycle::{Answer, Ask, Live, Record, Usage};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::launch;
use crate::output::{self, ListArgs, human_bytes};

/// Show what containers use
///
/// The CPU share is that of the last second.
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Names or ids of containers; without any, all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// The span over which the CPU share is measured.
const SPAN: Duration = Duration::from_secs(1);

impl StatsArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let live = launch::live(app)?;
        let records: Vec<Record> = match self.containers.is_empty() {
            true => live.list()?,
            false => {
                let found = self.containers.iter().map(|name| live.find(name));
                found.collect::<Result<_, _>>()?
            }
        };
        let start = Instant::now();
        let before: Vec<Option<Usage>> =
            records.iter().map(|record| usage(&live, record)).collect();
        if !records.is_empty() {
            std::thread::sleep(SPAN);
        }
        let elapsed = start.elapsed();
        let rows: Vec<Value> = records
            .iter()
            .zip(before)
            // One that has ended in between uses nothing any more.
            .filter_map(|(record, before)| Some((record, before?, usage(&live, record)?)))
            .map(|(record, before, now)| row(record, &before, &now, elapsed))
            .collect();
        let columns = [
            ("CONTAINER ID", "ID"),
            ("NAME", "Name"),
            ("CPU %", "CPUPerc"),
            ("MEM USAGE / LIMIT", "MemUsage"),
            ("MEM %", "MemPerc"),
            ("NET I/O", "NetIO"),
            ("STORED", "Stored"),
        ];
        output::list(&self.list, &columns, "ID", &rows)
    }
}

fn usage(live: &Live, record: &Record) -> Option<Usage> {
    match live.ask(record, &Ask::Usage) {
        Ok(Answer::Usage(usage)) => Some(usage),
        Ok(Answer::Done | Answer::Refused(_)) | Err(_) => None,
    }
}

fn row(record: &Record, before: &Usage, now: &Usage, elapsed: Duration) -> Value {
    let limit = record.policy.limits().memory.get();
    let cpu = now.cpu_nanos.saturating_sub(before.cpu_nanos) as f64 / elapsed.as_nanos() as f64;
    let part = now.memory as f64 / limit.max(1) as f64;
    json!({
        "ID": record.id.short(),
        "Name": record.name.as_str(),
        "CPUPerc": format!("{:.2}%", 100.0 * cpu),
        "MemUsage": format!("{} / {}", human_bytes(now.memory), human_bytes(limit)),
        "MemPerc": format!("{:.2}%", 100.0 * part),
        "NetIO": format!("{} / {}", human_bytes(now.received), human_bytes(now.sent)),
        "Stored": human_bytes(now.stored),
        "CpuNanos": now.cpu_nanos,
        "Memory": now.memory,
        "MemoryPeak": now.memory_peak,
        "MemoryLimit": limit,
        "Received": now.received,
        "Sent": now.sent,
    })
}
