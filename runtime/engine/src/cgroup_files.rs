//! Where processes are in the kernel's hierarchies of cgroups (cgroups(7)), and what the files there say.

use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchies are.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// The folders of a cgroup, one in each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupFiles {
    /// By controllers, parted by commas as `/proc/PID/cgroup` has them; the one of cgroup2 has none.
    folders: Vec<(String, PathBuf)>,
}

impl CgroupFiles {
    /// The cgroup that a process is in; no folders, if there is no such process.
    pub fn of(pid: u32) -> CgroupFiles {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        CgroupFiles::read(Path::new(ROOT), &text)
    }

    /// That of this process.
    pub(crate) fn own() -> io::Result<CgroupFiles> {
        let text = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(CgroupFiles::read(Path::new(ROOT), &text))
    }

    /// Reads a `/proc/PID/cgroup` whose hierarchies are below `root`.
    pub(crate) fn read(root: &Path, text: &str) -> CgroupFiles {
        let folder = |line: &str| {
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
        CgroupFiles { folders: text.lines().filter_map(folder).collect() }
    }

    /// One that has no folder yet.
    pub(crate) fn none() -> CgroupFiles {
        CgroupFiles { folders: Vec::new() }
    }

    /// Adds the folder in the hierarchy of a controller.
    pub(crate) fn push(&mut self, controller: &str, folder: PathBuf) {
        self.folders.push((controller.to_owned(), folder));
    }

    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|(_, folder)| folder.as_path())
    }

    /// Its folder in the hierarchy of a controller; that of cgroup2 has the name "".
    pub fn folder(&self, controller: &str) -> Option<&Path> {
        let mut folders = self.folders.iter();
        let found = folders.find(|(names, _)| names.split(',').any(|name| name == controller))?;
        Some(&found.1)
    }

    /// What a file says; nothing, if there is none.
    fn text(&self, controller: &str, file: &str) -> String {
        let path = self.folder(controller).map(|folder| folder.join(file));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// The number of a file; what has no limit says `max`. 0, if there is none.
    pub fn number(&self, controller: &str, file: &str) -> u64 {
        let text = self.text(controller, file);
        text.trim().parse().unwrap_or(if text.trim() == "max" { u64::MAX } else { 0 })
    }

    /// The number in a line `KEY NUMBER` of a file; 0, if there is none.
    pub fn keyed(&self, controller: &str, file: &str, key: &str) -> u64 {
        let text = self.text(controller, file);
        let number = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
        text.lines().find_map(number).unwrap_or(0)
    }

    /// How many of its processes the kernel has ended for want of memory.
    pub fn memory_kills(&self) -> u64 {
        self.keyed("", "memory.events", "oom_kill")
            + self.keyed("memory", "memory.oom_control", "oom_kill")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_for_both_hierarchies() {
        let read = |text| CgroupFiles::read(Path::new(ROOT), text);
        let v1 = read("5:cpu,cpuacct:/kube/pod\n3:memory:/kube/pod\n0::/\n");
        let folder = |path: &str| Path::new(ROOT).join(path);
        assert_eq!(v1.folder("memory"), Some(folder("memory/kube/pod").as_path()));
        assert_eq!(v1.folder("cpu"), Some(folder("cpuacct/kube/pod").as_path()));
        assert_eq!(v1.folder("pids"), None);
        assert_eq!(read("0::/kube/pod\n").folder(""), Some(folder("kube/pod").as_path()));
    }

    #[test]
    fn numbers_are_read_off_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file, text| std::fs::write(folder.path().join(file), text).unwrap();
        write("memory.max", "max\n");
        write("memory.events", "oom 3\noom_kill 2\noom_group_kill 1\n");
        let files = CgroupFiles::read(folder.path(), "0::/\n");
        assert_eq!(files.number("", "memory.max"), u64::MAX);
        assert_eq!(files.memory_kills(), 2);
        assert_eq!((files.number("", "none"), files.keyed("memory", "none", "x")), (0, 0));
    }
}
