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
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let live = launch::live(app)?;
        let records: Vec<Record> = match self.containers.is_empty() {
            true => live.list()?,
            false => {
                let found = self.containers.iter().map(|name| live.find(name));
                found.collect::<Result<_, _>>()?
            }
        };
        let samples: Vec<Option<Sample>> = std::thread::scope(|scope| {
            let live = &live;
            let each = |record| scope.spawn(move || Sample::take(live, record));
            let threads: Vec<_> = records.iter().map(each).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("asking does not panic"))
                .collect()
        });
        let (mut rows, mut failed) = (Vec::new(), 0);
        for (record, sample) in records.iter().zip(samples) {
            match sample {
                Some(sample) => rows.push(row(record, &sample)),
                // One that has ended in between uses nothing any more.
                None if live.find(record.id.as_str()).is_err() => {}
                None => {
                    output::error(&format!("{} does not answer", record.name));
                    failed = 1;
                }
            }
        }
        let columns = [
            ("CONTAINER ID", "ID"),
            ("NAME", "Name"),
            ("CPU %", "CPUPerc"),
            ("MEM USAGE / LIMIT", "MemUsage"),
            ("MEM %", "MemPerc"),
            ("NET I/O", "NetIO"),
            ("STORED", "Stored"),
        ];
        output::list(&self.list, &columns, "ID", &rows)?;
        Ok(failed)
    }
}

/// What a container uses, and what it used of a CPU within a span.
struct Sample {
    now: Usage,
    cpu: f64,
}

impl Sample {
    fn take(live: &Live, record: &Record) -> Option<Sample> {
        let start = Instant::now();
        let before = usage(live, record)?;
        std::thread::sleep(SPAN);
        let now = usage(live, record)?;
        let computed = now.cpu_nanos.saturating_sub(before.cpu_nanos);
        Some(Sample { now, cpu: computed as f64 / start.elapsed().as_nanos() as f64 })
    }
}

fn usage(live: &Live, record: &Record) -> Option<Usage> {
    match live.ask(record, &Ask::Usage) {
        Ok(Answer::Usage(usage)) => Some(usage),
        Ok(Answer::Done | Answer::Refused(_)) | Err(_) => None,
    }
}

fn row(record: &Record, Sample { now, cpu }: &Sample) -> Value {
    let limit = record.policy.limits().memory.get();
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
