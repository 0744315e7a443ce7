//! What a container uses, as containerd's clients read it: in the words of the machine's cgroups.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::{cgroups, cgroups_v2};
use mote_lifecycle::Usage;

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

/// What bounds a guest, and whether that ended it.
pub(crate) struct Bounds {
    pub(crate) memory: u64,
    pub(crate) out_of_memory: bool,
}

/// What the kernel has counted.
pub(crate) struct Kernel {
    pub(crate) cpu_nanos: u64,
    pub(crate) memory: u64,
    pub(crate) memory_limit: u64,
    /// File pages that could be had back: what is in use is the rest (kubelet's working set).
    pub(crate) inactive_file: u64,
    pub(crate) pids: u64,
    pub(crate) out_of_memory: bool,
}

/// A guest's metrics. They are answered also after its end, when whether it ran out of memory is what
/// is wanted.
pub(crate) fn of_guest(hierarchy: Hierarchy, usage: &Usage, bounds: &Bounds) -> Any {
    let kernel = Kernel {
        cpu_nanos: usage.cpu_nanos,
        memory: usage.memory,
        memory_limit: bounds.memory,
        inactive_file: 0,
        pids: 1,
        out_of_memory: bounds.out_of_memory,
    };
    of_kernel(hierarchy, &kernel)
}

/// The metrics of what the kernel has counted, or would have.
pub(crate) fn of_kernel(hierarchy: Hierarchy, kernel: &Kernel) -> Any {
    // CRI subtracts one from the other, and knows nothing below zero.
    let kernel = Kernel { memory: kernel.memory.min(kernel.memory_limit), ..*kernel };
    match hierarchy {
        Hierarchy::V1 => any("io.containerd.cgroups.v1.Metrics", &v1(&kernel)),
        Hierarchy::V2 => any("io.containerd.cgroups.v2.Metrics", &v2(&kernel)),
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: name.to_owned(),
        value: message.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}

fn v1(kernel: &Kernel) -> cgroups::metrics::Metrics {
    use cgroups::metrics::{
        CPUStat, CPUUsage, MemoryEntry, MemoryOomControl, MemoryStat, Metrics, PidsStat,
    };
    let Kernel { cpu_nanos, memory, memory_limit, inactive_file, pids, out_of_memory } = *kernel;
    let entry = MemoryEntry { usage: memory, limit: memory_limit, ..MemoryEntry::default() };
    let anonymous = memory.saturating_sub(inactive_file);
    Metrics {
        pids: MessageField::some(PidsStat { current: pids, ..PidsStat::default() }),
        cpu: MessageField::some(CPUStat {
            usage: MessageField::some(CPUUsage {
                total: cpu_nanos,
                user: cpu_nanos,
                ..CPUUsage::default()
            }),
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            usage: MessageField::some(entry),
            rss: anonymous,
            total_rss: anonymous,
            inactive_file,
            total_inactive_file: inactive_file,
            hierarchical_memory_limit: memory_limit,
            ..MemoryStat::default()
        }),
        memory_oom_control: MessageField::some(MemoryOomControl {
            oom_kill: u64::from(out_of_memory),
            ..MemoryOomControl::default()
        }),
        ..Metrics::default()
    }
}

fn v2(kernel: &Kernel) -> cgroups_v2::metrics::Metrics {
    use cgroups_v2::metrics::{CPUStat, MemoryEvents, MemoryStat, Metrics, PidsStat};
    let Kernel { cpu_nanos, memory, memory_limit, inactive_file, pids, out_of_memory } = *kernel;
    let micros = cpu_nanos / 1_000;
    Metrics {
        pids: MessageField::some(PidsStat { current: pids, ..PidsStat::default() }),
        cpu: MessageField::some(CPUStat {
            usage_usec: micros,
            user_usec: micros,
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            anon: memory.saturating_sub(inactive_file),
            inactive_file,
            usage: memory,
            usage_limit: memory_limit,
            ..MemoryStat::default()
        }),
        memory_events: MessageField::some(MemoryEvents {
            oom: u64::from(out_of_memory),
            oom_kill: u64::from(out_of_memory),
            ..MemoryEvents::default()
        }),
        ..Metrics::default()
    }
}
