//! What the kernel has counted of a native container: its cgroups, as they were when it was made.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::metrics::{self, Hierarchy, Kernel};

/// The cgroups of a container.
pub(crate) struct Cgroup {
    /// Its place in each hierarchy, by controller; the one of cgroup2 has no name (cgroups(7)).
    places: Vec<(String, PathBuf)>,
    /// Whether it was seen to have run out of memory: its files go with it.
    out_of_memory: AtomicBool,
}

impl Cgroup {
    /// The cgroups that a process is in.
    pub(crate) fn of(pid: u32) -> Cgroup {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Cgroup { places: places(&text), out_of_memory: AtomicBool::new(false) }
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        let mut places = self.places.iter();
        let (_, path) = places.find(|(name, _)| name.split(',').any(|one| one == controller))?;
        std::fs::read_to_string(path.join(file)).ok()
    }

    fn number(&self, controller: &str, file: &str) -> u64 {
        let text = self.read(controller, file).unwrap_or_default();
        // What has no limit says `max`.
        text.trim().parse().unwrap_or(if text.trim() == "max" { u64::MAX } else { 0 })
    }

    /// A line `KEY VALUE` of a file.
    fn keyed(&self, controller: &str, file: &str, key: &str) -> u64 {
        let text = self.read(controller, file).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// How many processes of it the kernel has ended for want of memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        self.keyed("", "memory.events", "oom_kill ")
            + self.keyed("memory", "memory.oom_control", "oom_kill ")
    }

    pub(crate) fn is_out_of_memory(&self) -> bool {
        let kills = self.memory_kills();
        self.out_of_memory.fetch_or(kills > 0, Ordering::Relaxed) || kills > 0
    }

    pub(crate) fn metrics(&self, hierarchy: Hierarchy) -> Any {
        let kernel = match hierarchy {
            Hierarchy::V1 => Kernel {
                cpu_nanos: self.number("cpuacct", "cpuacct.usage"),
                memory: self.number("memory", "memory.usage_in_bytes"),
                memory_limit: self.number("memory", "memory.limit_in_bytes"),
                inactive_file: self.keyed("memory", "memory.stat", "total_inactive_file "),
                pids: self.number("pids", "pids.current"),
                out_of_memory: self.is_out_of_memory(),
            },
            Hierarchy::V2 => Kernel {
                cpu_nanos: self.keyed("", "cpu.stat", "usage_usec ").saturating_mul(1000),
                memory: self.number("", "memory.current"),
                memory_limit: self.number("", "memory.max"),
                inactive_file: self.keyed("", "memory.stat", "inactive_file "),
                pids: self.number("", "pids.current"),
                out_of_memory: self.is_out_of_memory(),
            },
        };
        metrics::of_kernel(hierarchy, &kernel)
    }
}

/// The folders of a process's cgroups, from `/proc/PID/cgroup`.
fn places(text: &str) -> Vec<(String, PathBuf)> {
    let root = Path::new("/sys/fs/cgroup");
    let place = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?.to_owned(), fields.next()?);
        let path = path.trim_start_matches('/');
        let folder = match controllers.as_str() {
            "" => root.join(path),
            // A hierarchy is mounted under its controllers' names, and each of them links to it.
            names => root.join(names.split(',').next_back().unwrap_or(names)).join(path),
        };
        Some((controllers, folder))
    };
    text.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_for_both_hierarchies() {
        let v1 = places("5:cpu,cpuacct:/kube/pod\n3:memory:/kube/pod\n");
        let memory = PathBuf::from("/sys/fs/cgroup/memory/kube/pod");
        assert_eq!(v1[1], ("memory".to_owned(), memory));
        assert_eq!(v1[0].1, PathBuf::from("/sys/fs/cgroup/cpuacct/kube/pod"));
        let v2 = places("0::/kube/pod\n");
        assert_eq!(v2[0], (String::new(), PathBuf::from("/sys/fs/cgroup/kube/pod")));
    }
}
