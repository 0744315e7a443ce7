//! A cgroup for the process of one guest (cgroups(7)): a bound that the kernel holds on what mote does not
//! count, such as buffers of the process itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mote_spec::Bytes;
use rustix::fs::Access;

use crate::cgroup_files::{self, CgroupFiles};

/// What a guest's process may need besides its guest's memory: the engine, stacks, buffers of calls.
const BESIDE_MEMORY: u64 = 128 << 20;
/// How many threads it may have: blocking calls take one each.
const MOST_THREADS: u32 = 600;

/// A cgroup. It goes when this is dropped; by then its process has to be gone.
#[derive(Debug)]
pub(super) struct Cgroup(CgroupFiles);

/// The controllers that bound it, and the files with its bounds: in the one hierarchy of cgroup2, or each in its own.
const UNIFIED: [(&str, &str); 2] = [("", "memory.max"), ("", "pids.max")];
const EACH: [(&str, &str); 2] = [("memory", "memory.limit_in_bytes"), ("pids", "pids.max")];

impl Cgroup {
    /// Makes a cgroup for a process whose guest may use so much memory, and puts the process in it.
    pub(super) fn enclose(pid: u32, memory: Bytes) -> io::Result<Cgroup> {
        Cgroup::below(Path::new(cgroup_files::ROOT), &CgroupFiles::own()?, pid, memory)
    }

    /// Whether this process could make one.
    pub(super) fn can_be_made() -> bool {
        let Ok(own) = CgroupFiles::own() else { return false };
        let root = Path::new(cgroup_files::ROOT);
        let writable = |folder: &Path| rustix::fs::access(folder, Access::WRITE_OK).is_ok();
        match is_unified(root) {
            true => writable(root),
            false => {
                EACH.iter().all(|(controller, _)| own.folder(controller).is_some_and(writable))
            }
        }
    }

    fn below(root: &Path, own: &CgroupFiles, pid: u32, memory: Bytes) -> io::Result<Cgroup> {
        let most = memory.get().saturating_add(BESIDE_MEMORY);
        let bounds = [most.to_string(), MOST_THREADS.to_string()];
        let files = match is_unified(root) {
            true => UNIFIED,
            false => EACH,
        };
        let mut made = Cgroup(CgroupFiles::none());
        for (controller, _) in files {
            let parent = match controller {
                "" => beside_all(root)?,
                controller => own.folder(controller).ok_or(io::ErrorKind::NotFound)?.to_owned(),
            };
            if made.0.folder(controller).is_none() {
                remove_abandoned(&parent);
                made.add(controller, parent.join(format!("mote-{pid}")))?;
            }
        }
        for ((controller, file), bound) in files.into_iter().zip(bounds) {
            let folder = made.0.folder(controller).ok_or(io::ErrorKind::NotFound)?;
            // It is there, or the kernel has no such bound.
            File::options().write(true).open(folder.join(file))?.write_all(bound.as_bytes())?;
        }
        for folder in made.0.folders() {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(made)
    }

    fn add(&mut self, controller: &str, folder: PathBuf) -> io::Result<()> {
        match fs::create_dir(&folder) {
            // That of a process that had this number before.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        self.0.push(controller, folder);
        Ok(())
    }

    /// Whether the kernel has ended its process for want of memory.
    pub(super) fn is_out_of_memory(&self) -> bool {
        self.0.memory_kills() > 0
    }
}

fn is_unified(root: &Path) -> bool {
    root.join("cgroup.controllers").exists()
}

/// A cgroup that has processes has no children that are bounded: so all are in one beside.
fn beside_all(root: &Path) -> io::Result<PathBuf> {
    let all = root.join("mote");
    fs::create_dir_all(&all)?;
    for folder in [root, &all] {
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")?;
    }
    Ok(all)
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in self.0.folders() {
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
        let own = CgroupFiles::read(root.path(), "0::/x");
        let made = Cgroup::below(root.path(), &own, 7, Bytes::mib(1)).unwrap();
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
        let own = CgroupFiles::read(root.path(), "8:pids:/\n4:memory:/a\n0::/\n");
        Cgroup::below(root.path(), &own, 7, Bytes::mib(2)).unwrap();
        let limit = fs::read_to_string(root.path().join("memory/a/mote-7/memory.limit_in_bytes"));
        assert_eq!(limit.unwrap(), (130 << 20).to_string());
        let none = CgroupFiles::read(root.path(), "0::/\n");
        assert!(Cgroup::below(root.path(), &none, 7, Bytes::mib(2)).is_err());
    }
}
