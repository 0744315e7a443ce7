//! `GET /containers/ID/stats`: what a container uses, once a second.

use std::sync::Arc;
use std::time::Duration;

use mote_lifecycle::{Record, Status, Time, Usage};
use serde_json::{Value, json};

use super::Call;
use super::answer::{self, Reply};

/// How often a client is told.
const EVERY: Duration = Duration::from_secs(1);

/// What was used until a moment.
struct Sample {
    at: Time,
    cpu_nanos: u64,
    /// What all CPUs of the machine could have computed by then.
    machine_nanos: u64,
}

impl Sample {
    fn take(usage: Usage) -> Sample {
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = up.tv_sec as u64 * 1_000_000_000 + up.tv_nsec as u64;
        Sample { at: Time::now(), cpu_nanos: usage.cpu_nanos, machine_nanos: nanos * cpus() }
    }

    fn none() -> Sample {
        Sample { at: Time::at_millis(0), cpu_nanos: 0, machine_nanos: 0 }
    }

    fn cpu(&self) -> Value {
        json!({
            "cpu_usage": {
                "total_usage": self.cpu_nanos,
                "usage_in_kernelmode": 0,
                "usage_in_usermode": self.cpu_nanos,
            },
            "system_cpu_usage": self.machine_nanos,
            "online_cpus": cpus(),
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        })
    }
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

/// What a container uses, again and again or once.
pub(crate) fn stream(call: &Call, id: &str) -> Reply {
    let entry = call.daemon.find(id)?;
    let again = call.query.text("stream").is_none() || call.query.flag("stream");
    let at_once = call.query.flag("one-shot");
    // A container that is removed meanwhile goes.
    let watched = Arc::downgrade(&entry);
    drop(entry);
    Ok(answer::stream("application/json", move |mut writer| async move {
        let mut before = Sample::none();
        if !again && !at_once {
            let Some(entry) = watched.upgrade() else { return };
            if entry.record().status().is_live() {
                before = Sample::take(entry.usage());
                drop(entry);
                tokio::time::sleep(EVERY).await;
            }
        }
        loop {
            let Some(entry) = watched.upgrade() else { return };
            let (record, usage) = (entry.record(), entry.usage());
            drop(entry);
            if record.status() == Status::Removed {
                return;
            }
            let now = Sample::take(usage);
            if !writer.line(&shown(&record, usage, &before, &now)).await || !again {
                return;
            }
            before = now;
            tokio::time::sleep(EVERY).await;
        }
    }))
}

fn shown(record: &Record, usage: Usage, before: &Sample, now: &Sample) -> Value {
    if !record.status().is_live() {
        // As docker has it: nothing is used, and nothing is known of limits.
        return json!({
            "id": record.id.as_str(),
            "name": format!("/{}", record.name),
            "read": "0001-01-01T00:00:00Z",
            "preread": "0001-01-01T00:00:00Z",
            "pids_stats": {}, "blkio_stats": {}, "num_procs": 0, "storage_stats": {},
            "cpu_stats": { "cpu_usage": { "total_usage": 0 } },
            "precpu_stats": { "cpu_usage": { "total_usage": 0 } },
            "memory_stats": {},
        });
    }
    let limits = record.policy.limits();
    let net_rate = limits.net_rate.bound().map(mote_spec::Rate::per_second);
    json!({
        "id": record.id.as_str(),
        "name": format!("/{}", record.name),
        "read": now.at.to_string(),
        "preread": before.at.to_string(),
        "pids_stats": { "current": 1 },
        "num_procs": 0,
        "cpu_stats": now.cpu(),
        "precpu_stats": before.cpu(),
        "memory_stats": {
            "usage": usage.memory,
            "max_usage": usage.memory_peak,
            "limit": limits.memory.get(),
            "stats": {},
        },
        "networks": {
            "wasi": {
                "rx_bytes": usage.received, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0,
                "tx_bytes": usage.sent, "tx_packets": 0, "tx_errors": 0, "tx_dropped": 0,
            },
        },
        "blkio_stats": {
            "io_service_bytes_recursive": [
                { "major": 0, "minor": 0, "op": "write", "value": usage.stored },
            ],
        },
        "storage_stats": {},
        // Mote's own: what is used, over what may be.
        "mote": {
            "stored": usage.stored,
            "storage_limit": limits.storage.bound().map(mote_spec::Bytes::get),
            "cpu_limit": limits.cpus.bound().map(|share| f64::from(share.millis()) / 1000.0),
            "net_rate": net_rate,
        },
    })
}
