//! What the kernel has counted of a native container: its cgroups, as they were when it was made.

use std::sync::atomic::{AtomicBool, Ordering};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use mote_engine::CgroupFiles;

use crate::metrics::{self, Hierarchy, Kernel};

/// The cgroups of a container.
pub(crate) struct Cgroup {
    files: CgroupFiles,
    /// Whether it was seen to have run out of memory: its files go with it.
    out_of_memory: AtomicBool,
}

impl Cgroup {
    /// The cgroups that a process is in.
    pub(crate) fn of(pid: u32) -> Cgroup {
        Cgroup { files: CgroupFiles::of(pid), out_of_memory: AtomicBool::new(false) }
    }

    /// How many processes of it the kernel has ended for want of memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        self.files.memory_kills()
    }

    pub(crate) fn is_out_of_memory(&self) -> bool {
        let kills = self.memory_kills();
        self.out_of_memory.fetch_or(kills > 0, Ordering::Relaxed) || kills > 0
    }

    pub(crate) fn metrics(&self, hierarchy: Hierarchy) -> Any {
        let files = &self.files;
        let kernel = match hierarchy {
            Hierarchy::V1 => Kernel {
                cpu_nanos: files.number("cpuacct", "cpuacct.usage"),
                memory: files.number("memory", "memory.usage_in_bytes"),
                memory_limit: files.number("memory", "memory.limit_in_bytes"),
                inactive_file: files.keyed("memory", "memory.stat", "total_inactive_file"),
                pids: files.number("pids", "pids.current"),
                out_of_memory: self.is_out_of_memory(),
            },
            Hierarchy::V2 => Kernel {
                cpu_nanos: files.keyed("", "cpu.stat", "usage_usec").saturating_mul(1000),
                memory: files.number("", "memory.current"),
                memory_limit: files.number("", "memory.max"),
                inactive_file: files.keyed("", "memory.stat", "inactive_file"),
                pids: files.number("", "pids.current"),
                out_of_memory: self.is_out_of_memory(),
            },
        };
        metrics::of_kernel(hierarchy, &kernel)
    }
}
