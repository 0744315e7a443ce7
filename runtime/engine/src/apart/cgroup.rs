//! A cgroup for the process of one guest (cgroups(7)): a bound that the kernel holds on what mote does not
//! count, such as buffers of the process itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mote_spec::Bytes;
use rustix::fs::Access;

/// What a guest's process may need besides its guest's memory: the engine, stacks, buffers of calls.
const BESIDE_MEMORY: u64 = 128 << 20;
/// How many threads it may have: blocking calls take one each.
const MOST_THREADS: u32 = 600;

/// A cgroup. It goes when this is dropped; by then its process has to be gone.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// Its folder in each hierarchy.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a cgroup for a process whose guest may use so much memory, and puts the process in it.
    pub(super) fn enclose(pid: u32, memory: Bytes) -> io::Result<Cgroup> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Cgroup::below(Path::new("/sys/fs/cgroup"), &own, pid, memory)
    }

    /// Whether this process could make one.
    pub(super) fn can_be_made() -> bool {
        let Ok(own) = fs::read_to_string("/proc/self/cgroup") else { return false };
        let root = Path::new("/sys/fs/cgroup");
        let folders = match root.join("cgroup.controllers").exists() {
            true => vec![root.to_owned()],
            false => match (place(&own, "memory"), place(&own, "pids")) {
                (Some(memory), Some(pids)) => {
                    vec![root.join("memory").join(memory), root.join("pids").join(pids)]
                }
                _ => return false,
            },
        };
        let writable = |folder: &PathBuf| rustix::fs::access(folder, Access::WRITE_OK).is_ok();
        folders.iter().all(writable)
    }

    fn below(root: &Path, own: &str, pid: u32, memory: Bytes) -> io::Result<Cgroup> {
        let name = format!("mote-{pid}");
        let most = memory.get().saturating_add(BESIDE_MEMORY).to_string();
        let threads = MOST_THREADS.to_string();
        let is_unified = root.join("cgroup.controllers").exists();
        let (folders, bounds): (Vec<PathBuf>, [(&str, &str); 2]) = if is_unified {
            // A cgroup that has processes has no children that are bounded: so all are in one beside.
            let all = root.join("mote");
            fs::create_dir_all(&all)?;
            for folder in [root, &all] {
                fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")?;
            }
            (vec![all.join(&name)], [("memory.max", &most), ("pids.max", &threads)])
        } else {
            let place = |controller| place(own, controller).ok_or(io::ErrorKind::NotFound);
            let memory = root.join("memory").join(place("memory")?).join(&name);
            let pids = root.join("pids").join(place("pids")?).join(&name);
            (vec![memory, pids], [("memory.limit_in_bytes", &most), ("pids.max", &threads)])
        };
        folders.iter().filter_map(|folder| folder.parent()).for_each(remove_abandoned);
        let mut made = Cgroup { folders: Vec::new() };
        for folder in folders {
            match fs::create_dir(&folder) {
                // That of a process that had this number before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
            made.folders.push(folder);
        }
        for (file, bound) in bounds {
            let has =
                made.folders.iter().map(|folder| folder.join(file)).find(|path| path.exists());
            fs::write(has.ok_or(io::ErrorKind::NotFound)?, bound)?;
        }
        for folder in &made.folders {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(made)
    }

    /// Whether the kernel has ended its process for want of memory.
    pub(super) fn is_out_of_memory(&self) -> bool {
        let files = ["memory.events", "memory.oom_control"];
        let paths = self.folders.iter().flat_map(|folder| files.map(|file| folder.join(file)));
        let texts = paths.filter_map(|path| fs::read_to_string(path).ok());
        texts.into_iter().any(|text| {
            let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            kills.is_some_and(|kills| kills.trim() != "0")
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // One that still has a process stays, empty, until its number comes round again.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Removes those whose process is gone, and so is whoever would have removed them.
fn remove_abandoned(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("mote-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where a process is in the hierarchy of a controller, from `/proc/PID/cgroup`.
fn place(own: &str, controller: &str) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_it = fields.next()?.split(',').any(|name| name == controller);
        let path = fields.next()?.trim_start_matches('/');
        is_it.then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files that the kernel would make in it.
    fn with_files(folder: &Path, files: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|file| fs::write(folder.join(file), "").unwrap());
    }

    #[test]
    fn both_hierarchies_bound_memory_and_threads() {
        let root = tempfile::tempdir().unwrap();
        with_files(root.path(), &["cgroup.controllers"]);
        with_files(&root.path().join("mote/mote-7"), &["memory.max", "pids.max"]);
        let made = Cgroup::below(root.path(), "0::/x", 7, Bytes::mib(1)).unwrap();
        let read = |file: &str| fs::read_to_string(root.path().join("mote").join(file)).unwrap();
        assert_eq!(read("mote-7/memory.max"), (129 << 20).to_string());
        assert_eq!(
            (read("mote-7/cgroup.procs"), read("mote-7/pids.max")),
            ("7".into(), "600".into())
        );
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids");
        assert!(!made.is_out_of_memory());
        with_files(&root.path().join("mote/mote-7"), &["memory.events"]);
        fs::write(root.path().join("mote/mote-7/memory.events"), "oom 1\noom_kill 1\n").unwrap();
        assert!(made.is_out_of_memory());

        let root = tempfile::tempdir().unwrap();
        with_files(&root.path().join("memory/a/mote-7"), &["memory.limit_in_bytes"]);
        with_files(&root.path().join("pids/mote-7"), &["pids.max"]);
        let own = "8:pids:/\n4:memory:/a\n0::/\n";
        Cgroup::below(root.path(), own, 7, Bytes::mib(2)).unwrap();
        let limit = fs::read_to_string(root.path().join("memory/a/mote-7/memory.limit_in_bytes"));
        assert_eq!(limit.unwrap(), (130 << 20).to_string());
        assert!(Cgroup::below(root.path(), "0::/\n", 7, Bytes::mib(2)).is_err());
    }
}
