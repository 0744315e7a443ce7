//! What Prometheus scrapes: the text format, with names and units as its conventions have them.

use std::fmt::Write as _;

use mote_lifecycle::{Record, Resource, Status, Usage};
use mote_spec::Limit;

use crate::daemon::Daemon;
use crate::entry::Entry;

/// One family of metrics, and what it is for each container.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Record, &Entry) -> Option<f64>,
}

fn live(record: &Record, value: f64) -> Option<f64> {
    record.status().is_live().then_some(value)
}

fn nanos(entry: &Entry) -> f64 {
    entry.usage().cpu_nanos as f64 / 1e9
}

fn used(entry: &Entry, read: fn(Usage) -> u64) -> f64 {
    read(entry.usage()) as f64
}

const FAMILIES: [Family; 14] = [
    Family {
        name: "mote_container_running",
        kind: "gauge",
        help: "Whether the container has a guest (1), paused or not.",
        value: |record, _| Some(f64::from(u8::from(record.status().is_live()))),
    },
    Family {
        name: "mote_container_paused",
        kind: "gauge",
        help: "Whether the container is paused (1).",
        value: |record, _| Some(f64::from(u8::from(record.status() == Status::Paused))),
    },
    Family {
        name: "mote_container_restarts_total",
        kind: "counter",
        help: "Times that the container was started again by its policy, since it was started by hand.",
        value: |record, _| Some(f64::from(record.restarts)),
    },
    Family {
        name: "mote_container_exit_code",
        kind: "gauge",
        help: "Exit code of the last run.",
        value: |record, _| record.last_end.map(|how| f64::from(how.code())),
    },
    Family {
        name: "mote_container_healthy",
        kind: "gauge",
        help: "Whether the health check finds the container healthy (1).",
        value: |record, _| {
            let healthy = |health| health == mote_lifecycle::HealthStatus::Healthy;
            live(record, 0.0).and(record.health).map(|health| f64::from(u8::from(healthy(health))))
        },
    },
    Family {
        name: "mote_container_cpu_seconds_total",
        kind: "counter",
        help: "CPU time of the current run.",
        value: |record, entry| live(record, nanos(entry)),
    },
    Family {
        name: "mote_container_cpu_limit_cores",
        kind: "gauge",
        help: "Share of a CPU that the container may use.",
        value: |record, _| match record.policy.limits().cpus {
            Limit::AtMost(share) => Some(f64::from(share.millis()) / 1000.0),
            Limit::Unlimited => None,
        },
    },
    Family {
        name: "mote_container_memory_bytes",
        kind: "gauge",
        help: "Memory and tables of the guest.",
        value: |record, entry| live(record, used(entry, |usage| usage.memory)),
    },
    Family {
        name: "mote_container_memory_peak_bytes",
        kind: "gauge",
        help: "The most memory that the guest had in this run.",
        value: |record, entry| live(record, used(entry, |usage| usage.memory_peak)),
    },
    Family {
        name: "mote_container_memory_limit_bytes",
        kind: "gauge",
        help: "Memory that the guest may have.",
        value: |record, _| Some(record.policy.limits().memory.get() as f64),
    },
    Family {
        name: "mote_container_storage_bytes",
        kind: "gauge",
        help: "Bytes that the guest stored, where its storage is bounded.",
        value: |record, entry| live(record, used(entry, |usage| usage.stored)),
    },
    Family {
        name: "mote_container_storage_limit_bytes",
        kind: "gauge",
        help: "Bytes that the guest may store.",
        value: |record, _| match record.policy.limits().storage {
            Limit::AtMost(most) => Some(most.get() as f64),
            Limit::Unlimited => None,
        },
    },
    Family {
        name: "mote_container_network_receive_bytes_total",
        kind: "counter",
        help: "Bytes that the guest received in this run.",
        value: |record, entry| live(record, used(entry, |usage| usage.received)),
    },
    Family {
        name: "mote_container_network_transmit_bytes_total",
        kind: "counter",
        help: "Bytes that the guest sent in this run.",
        value: |record, entry| live(record, used(entry, |usage| usage.sent)),
    },
];

/// The metrics of a daemon and its containers.
pub(crate) fn text(daemon: &Daemon) -> String {
    let mut text = String::new();
    let counts = daemon.counts();
    head(&mut text, "mote_containers", "gauge", "Containers, by state.");
    let stopped = counts.all - counts.running - counts.paused;
    for (state, count) in
        [("running", counts.running), ("paused", counts.paused), ("stopped", stopped)]
    {
        line(&mut text, &format!("mote_containers{{state=\"{state}\"}}"), count as f64);
    }
    resources(&mut text, daemon);
    head(&mut text, "mote_start_time_seconds", "gauge", "When the daemon started, since 1970.");
    line(&mut text, "mote_start_time_seconds", daemon.started.millis() as f64 / 1000.0);
    let entries = daemon.list();
    for family in FAMILIES {
        let Family { name, kind, help, value } = family;
        head(&mut text, name, kind, help);
        for entry in &entries {
            let record = entry.record();
            if let Some(value) = value(&record, entry) {
                line(&mut text, &format!("{name}{{{}}}", labels(&record)), value);
            }
        }
    }
    text
}

fn resources(text: &mut String, daemon: &Daemon) {
    let total = daemon.total;
    let all = [
        ("mote_pool_memory", "_bytes", Resource::Memory, total.memory as f64, 1.0),
        ("mote_pool_cpu", "_cores", Resource::Cpu, total.cpu as f64 / 1000.0, 1000.0),
        ("mote_pool_storage", "_bytes", Resource::Storage, total.storage as f64, 1.0),
        ("mote_pool_network", "_bytes_per_second", Resource::Network, total.network as f64, 1.0),
    ];
    for (name, unit, resource, total, per) in all {
        if total >= u64::MAX as f64 {
            // Nobody bounds it.
            continue;
        }
        let (size, free) = (format!("{name}_size{unit}"), format!("{name}_free{unit}"));
        head(text, &size, "gauge", "What containers may require together.");
        line(text, &size, total);
        head(text, &free, "gauge", "What of it no container has reserved.");
        line(text, &free, daemon.free(resource) as f64 / per);
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, what: &str, value: f64) {
    let _ = writeln!(text, "{what} {value}");
}

fn labels(record: &Record) -> String {
    // Names and ids need no escapes; an image is what somebody typed.
    let image = record.image.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("id=\"{}\",name=\"{}\",image=\"{image}\"", record.id.short(), record.name)
}
