//! `mote stats`

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use clap::Args;
use mote_lifecycle::{Answer, Ask, Live, LiveError, Record, Usage};
use serde_json::{Value, json};

use crate::app::App;
use crate::client::{Client, encoded};
use crate::error::CliError;
use crate::launch;
use crate::output::{self, Column, ListArgs, human_bytes};
use crate::template;

/// Show what containers use
///
/// On a terminal the table is drawn anew every second, with the last seconds of CPU and memory as
/// small charts, until it is interrupted. Elsewhere, and with --no-stream or --format, it is printed
/// once; the CPU share is that of one second.
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Print once, also on a terminal
    #[arg(long)]
    no_stream: bool,
    /// Names or ids of containers; without any, all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// The span over which the CPU share is measured.
const SPAN: Duration = Duration::from_secs(1);
/// How many spans a chart shows.
const CHART: usize = 20;

const COLUMNS: [Column; 7] = [
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("STORED", "Stored"),
];

impl StatsArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let meter = Meter { live: launch::live(app)?, daemon: Client::running(app) };
        let (mut before, _) = meter.read(&self.containers)?;
        let once = self.no_stream || self.list.is_for_programs() || !output::drawn_on();
        let mut charts: BTreeMap<String, Charts> = BTreeMap::new();
        loop {
            std::thread::sleep(SPAN);
            let (now, silent) = meter.read(&self.containers)?;
            let shares: Vec<(&Reading, f64)> = now
                .values()
                .map(|reading| (reading, share(before.get(&reading.id), reading)))
                .collect();
            let mut rows: Vec<Value> =
                shares.iter().map(|(reading, cpu)| row(reading, *cpu)).collect();
            if once {
                output::list(&self.list, &COLUMNS, "ID", &rows)?;
                for name in &silent {
                    output::error(&format!("{name} does not answer"));
                }
                return Ok(u8::from(!silent.is_empty()));
            }
            charts.retain(|id, _| now.contains_key(id));
            for ((reading, cpu), row) in shares.iter().zip(&mut rows) {
                let chart = charts.entry(reading.id.clone()).or_default();
                chart.add(*cpu, reading.memory as f64 / reading.limit.max(1) as f64);
                (row["CPUChart"], row["MemChart"]) = (json!(chart.cpu()), json!(chart.memory()));
            }
            let columns: Vec<Column> =
                COLUMNS.into_iter().chain([("CPU", "CPUChart"), ("MEMORY", "MemChart")]).collect();
            output::clear();
            output::list(&self.list, &columns, "ID", &rows)?;
            before = now;
        }
    }
}

/// What a container has used until a moment.
struct Reading {
    id: String,
    name: String,
    at: Instant,
    cpu_nanos: u64,
    memory: u64,
    peak: u64,
    limit: u64,
    received: u64,
    sent: u64,
    stored: u64,
}

/// Who is asked.
struct Meter {
    live: Live,
    daemon: Option<Client>,
}

impl Meter {
    /// Reads what the named containers use, or all that run; and says which do not answer.
    fn read(&self, names: &[String]) -> Result<(BTreeMap<String, Reading>, Vec<String>), CliError> {
        let (mut readings, mut silent) = (BTreeMap::new(), Vec::new());
        let mut add = |found: Found| match found {
            Found::Read(reading) => drop(readings.insert(reading.id.clone(), *reading)),
            Found::Silent(name) => silent.push(name),
            Found::Ended => {}
        };
        if names.is_empty() {
            self.live.list()?.iter().for_each(|record| add(self.here(record)));
            if let Some(client) = &self.daemon {
                let listed = client.get("/containers/json")?;
                for one in listed.as_array().into_iter().flatten() {
                    add(there(client, &template::text(&one["Id"])));
                }
            }
            return Ok((readings, silent));
        }
        for name in names {
            match (self.live.find(name), &self.daemon) {
                (Ok(record), _) => add(self.here(&record)),
                (Err(LiveError::None(_)), Some(client)) => {
                    client.get(&format!("/containers/{}/json", encoded(name)))?;
                    add(there(client, name));
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
        Ok((readings, silent))
    }

    fn here(&self, record: &Record) -> Found {
        let usage = match self.live.ask(record, &Ask::Usage) {
            Ok(Answer::Usage(usage)) => usage,
            // One that has ended in between uses nothing any more.
            _ if self.live.find(record.id.as_str()).is_err() => return Found::Ended,
            _ => return Found::Silent(record.name.to_string()),
        };
        let Usage { memory, memory_peak, cpu_nanos, stored, received, sent } = usage;
        Found::Read(Box::new(Reading {
            id: record.id.to_string(),
            name: record.name.to_string(),
            at: Instant::now(),
            cpu_nanos,
            memory,
            peak: memory_peak,
            limit: record.policy.limits().memory.get(),
            received,
            sent,
            stored,
        }))
    }
}

/// What came of asking.
enum Found {
    Read(Box<Reading>),
    Silent(String),
    Ended,
}

fn there(client: &Client, id: &str) -> Found {
    let path = format!("/containers/{}/stats?stream=0&one-shot=1", encoded(id));
    let Ok(stats) = client.get(&path) else { return Found::Ended };
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let memory = &stats["memory_stats"];
    if memory["limit"].is_null() {
        return Found::Ended;
    }
    let net = &stats["networks"]["wasi"];
    Found::Read(Box::new(Reading {
        id: template::text(&stats["id"]),
        name: template::text(&stats["name"]).trim_start_matches('/').to_owned(),
        at: Instant::now(),
        cpu_nanos: number(&stats["cpu_stats"]["cpu_usage"]["total_usage"]),
        memory: number(&memory["usage"]),
        peak: number(&memory["max_usage"]),
        limit: number(&memory["limit"]),
        received: number(&net["rx_bytes"]),
        sent: number(&net["tx_bytes"]),
        stored: number(&stats["mote"]["stored"]),
    }))
}

/// The share of a CPU that was used between two readings.
fn share(before: Option<&Reading>, now: &Reading) -> f64 {
    let Some(before) = before else { return 0.0 };
    let computed = now.cpu_nanos.saturating_sub(before.cpu_nanos);
    computed as f64 / (now.at - before.at).as_nanos().max(1) as f64
}

/// The last spans of one container.
#[derive(Default)]
struct Charts {
    cpu: VecDeque<f64>,
    memory: VecDeque<f64>,
}

impl Charts {
    fn add(&mut self, cpu: f64, memory: f64) {
        for (chart, value) in [(&mut self.cpu, cpu), (&mut self.memory, memory)] {
            chart.push_back(value);
            if chart.len() > CHART {
                chart.pop_front();
            }
        }
    }

    /// A whole CPU is the full height, or the most that was used of several.
    fn cpu(&self) -> String {
        sparkline(&self.cpu, self.cpu.iter().copied().fold(1.0, f64::max))
    }

    fn memory(&self) -> String {
        sparkline(&self.memory, 1.0)
    }
}

/// Values as columns of eight heights.
fn sparkline(values: &VecDeque<f64>, full: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |value: &f64| BARS[((value / full * 8.0) as usize).min(7)];
    values.iter().map(bar).collect()
}

fn row(reading: &Reading, cpu: f64) -> Value {
    let Reading { id, name, at: _, cpu_nanos, memory, peak, limit, received, sent, stored } =
        reading;
    let part = *memory as f64 / (*limit).max(1) as f64;
    json!({
        "ID": id.get(..12).unwrap_or(id),
        "Name": name,
        "CPUPerc": format!("{:.2}%", 100.0 * cpu),
        "MemUsage": format!("{} / {}", human_bytes(*memory), human_bytes(*limit)),
        "MemPerc": format!("{:.2}%", 100.0 * part),
        "NetIO": format!("{} / {}", human_bytes(*received), human_bytes(*sent)),
        "Stored": human_bytes(*stored),
        "CpuNanos": cpu_nanos,
        "Memory": memory,
        "MemoryPeak": peak,
        "MemoryLimit": limit,
        "Received": received,
        "Sent": sent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_keeps_the_last_spans_and_never_overflows() {
        let mut charts = Charts::default();
        for step in 0..30 {
            charts.add(f64::from(step) / 10.0, 2.0);
        }
        assert_eq!(charts.cpu().chars().count(), CHART);
        assert_eq!(charts.cpu().chars().last(), Some('█'));
        assert_eq!(charts.memory(), "█".repeat(CHART));
        assert_eq!(sparkline(&VecDeque::from([0.0, 0.5, 1.0]), 1.0), "▁▅█");
    }
}
