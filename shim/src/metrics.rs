//! What a container uses, as containerd's clients read it: in the words of the machine's cgroups.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::{cgroups, cgroups_v2};
use mote_lifecycle::{Record, Usage};
use mote_spec::ExitStatus;

/// Which hierarchy this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    V1,
    V2,
}

impl Hierarchy {
    /// The one that is mounted: cgroup2's root names its controllers.
    pub(crate) fn of_machine() -> Hierarchy {
        match std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => Hierarchy::V2,
            false => Hierarchy::V1,
        }
    }
}

/// A container's metrics. They are answered also after its end, when whether it ran out of memory is
/// what is wanted.
pub(crate) fn metrics(hierarchy: Hierarchy, record: &Record, usage: &Usage) -> Any {
    let limit = record.policy.limits().memory.get();
    let out_of_memory = u64::from(record.ending() == Some(ExitStatus::OutOfMemory));
    match hierarchy {
        Hierarchy::V1 => any("io.containerd.cgroups.v1.Metrics", &v1(usage, limit, out_of_memory)),
        Hierarchy::V2 => any("io.containerd.cgroups.v2.Metrics", &v2(usage, limit, out_of_memory)),
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: name.to_owned(),
        value: message.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}

fn v1(usage: &Usage, limit: u64, out_of_memory: u64) -> cgroups::metrics::Metrics {
    use cgroups::metrics::{
        CPUStat, CPUUsage, MemoryEntry, MemoryOomControl, MemoryStat, Metrics, PidsStat,
    };
    let memory = MemoryEntry {
        usage: usage.memory,
        max: usage.memory_peak,
        limit,
        ..MemoryEntry::default()
    };
    Metrics {
        pids: MessageField::some(PidsStat { current: 1, ..PidsStat::default() }),
        cpu: MessageField::some(CPUStat {
            usage: MessageField::some(CPUUsage {
                total: usage.cpu_nanos,
                user: usage.cpu_nanos,
                ..CPUUsage::default()
            }),
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            usage: MessageField::some(memory),
            rss: usage.memory,
            total_rss: usage.memory,
            hierarchical_memory_limit: limit,
            ..MemoryStat::default()
        }),
        memory_oom_control: MessageField::some(MemoryOomControl {
            oom_kill: out_of_memory,
            ..MemoryOomControl::default()
        }),
        ..Metrics::default()
    }
}

fn v2(usage: &Usage, limit: u64, out_of_memory: u64) -> cgroups_v2::metrics::Metrics {
    use cgroups_v2::metrics::{CPUStat, MemoryEvents, MemoryStat, Metrics, PidsStat};
    let micros = usage.cpu_nanos / 1_000;
    Metrics {
        pids: MessageField::some(PidsStat { current: 1, ..PidsStat::default() }),
        cpu: MessageField::some(CPUStat {
            usage_usec: micros,
            user_usec: micros,
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            anon: usage.memory,
            usage: usage.memory,
            usage_limit: limit,
            ..MemoryStat::default()
        }),
        memory_events: MessageField::some(MemoryEvents {
            oom: out_of_memory,
            oom_kill: out_of_memory,
            ..MemoryEvents::default()
        }),
        ..Metrics::default()
    }
}
