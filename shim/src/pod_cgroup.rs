//! The cgroup that a pod's process is in: one of its own below the pod's, beside those of native containers, so
//! that what guests use is counted, and bounded, as the pod's.
//!
//! A guest's own limits are mote's to hold; nothing is set here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::metrics::Hierarchy;

/// Where hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Those of the first kind that a pod is bounded and counted by; each is mounted under its name.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];

/// How long to wait before looking again whether a process is gone.
const GLANCE: Duration = Duration::from_millis(2);
/// How long others may take to leave.
const LEAVES: Duration = Duration::from_millis(500);

/// The cgroup of a pod's process, which need not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodCgroup {
    /// In each hierarchy.
    folders: Vec<PathBuf>,
}

/// Where a process was before it entered another cgroup.
#[derive(Debug)]
struct Origin(Vec<PathBuf>);

/// The cgroup that this process has been told to be in.
#[derive(Debug)]
pub(crate) struct Seat {
    cgroup: PodCgroup,
    taken: watch::Receiver<Option<Arc<io::Result<Origin>>>>,
}

impl Seat {
    /// Has a thread of its own enter, since the kernel may take tens of milliseconds for it.
    pub(crate) fn take(cgroup: PodCgroup, hierarchy: Hierarchy) -> Seat {
        let (tell, taken) = watch::channel(None);
        let seat = Seat { cgroup: cgroup.clone(), taken };
        std::thread::spawn(move || {
            let entered = cgroup.enter(hierarchy);
            if let Err(error) = &entered {
                tracing::warn!(%error, "guests are not counted as the pod's: its cgroup cannot be entered");
            }
            tell.send_replace(Some(Arc::new(entered)));
        });
        seat
    }

    /// Waits until it is in, or cannot be.
    pub(crate) async fn taken(&self) {
        // The thread always tells.
        let _ = self.taken.clone().wait_for(Option::is_some).await;
    }

    /// Leaves it, and removes it.
    pub(crate) fn leave(&self) {
        let entered = self.taken.borrow().clone();
        if let Some(Ok(origin)) = entered.as_deref() {
            self.cgroup.leave(origin);
        }
    }
}

impl PodCgroup {
    /// The one beside a container's, whose path a specification names.
    pub(crate) fn beside(hierarchy: Hierarchy, container: &str, group: &str) -> PodCgroup {
        let below = parent(container).join(format!("mote-{group}"));
        let folders = hierarchies(hierarchy).into_iter().map(|(_, root)| root.join(&below));
        PodCgroup { folders: folders.collect() }
    }

    /// Makes it, and moves this process there, with all its threads.
    fn enter(&self, hierarchy: Hierarchy) -> io::Result<Origin> {
        let origin = Origin::of_this_process(hierarchy);
        for folder in &self.folders {
            std::fs::create_dir_all(folder)?;
            move_to(folder)?;
        }
        Ok(origin)
    }

    /// Moves this process back, and removes the cgroup.
    fn leave(&self, origin: &Origin) {
        for folder in &origin.0 {
            // From one that cannot be left it is cleared away by `delete`.
            let _ = move_to(folder);
        }
        // A process of a guest may still be dying.
        self.remove_within(LEAVES);
    }

    /// Removes it if nobody is in it.
    pub(crate) fn remove(&self) {
        for folder in &self.folders {
            // The pod may go on.
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Removes it as soon as whoever was in it, and was killed, is gone.
    pub(crate) fn remove_within(&self, patience: Duration) {
        let start = Instant::now();
        let is_there = || self.folders.iter().any(|folder| folder.exists());
        self.remove();
        while is_there() && start.elapsed() < patience {
            std::thread::sleep(GLANCE);
            self.remove();
        }
    }
}

impl Origin {
    fn of_this_process(hierarchy: Hierarchy) -> Origin {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of = |(controller, root): (&str, PathBuf)| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            let place = lines.find(|(names, _)| names.split(',').any(|one| one == controller));
            place.map(|(_, path)| root.join(path.trim_start_matches('/')))
        };
        Origin(hierarchies(hierarchy).into_iter().filter_map(of).collect())
    }
}

/// The hierarchies, each with the name that `/proc/PID/cgroup` has for it; two controllers may share one.
fn hierarchies(hierarchy: Hierarchy) -> Vec<(&'static str, PathBuf)> {
    if hierarchy == Hierarchy::V2 {
        return vec![("", PathBuf::from(ROOT))];
    }
    let found =
        |name: &&'static str| Some((*name, Path::new(ROOT).join(name).canonicalize().ok()?));
    let mut all: Vec<(&str, PathBuf)> = CONTROLLERS.iter().filter_map(found).collect();
    all.dedup_by(|one, before| one.1 == before.1);
    all
}

fn move_to(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join("cgroup.procs"), std::process::id().to_string())
}

/// The cgroup that a container's is in, below the root of a hierarchy (`cgroupsPath` of the OCI runtime
/// specification; `SLICE:PREFIX:NAME` where systemd makes them).
fn parent(container: &str) -> PathBuf {
    let plain = || Path::new(container.trim_start_matches('/')).parent().map(Path::to_owned);
    let path = match container.split_once(':') {
        Some((slice, _)) => Some(folder_of_slice(slice)),
        None => plain(),
    };
    let path = path.unwrap_or_default();
    let inside = |part: &std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    path.components().filter(inside).collect()
}

/// Where a slice is: each dash is one deeper (systemd.slice(5)).
fn folder_of_slice(slice: &str) -> PathBuf {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    ends.filter(|end| *end > 0).map(|end| format!("{}.slice", &name[..end])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_cgroup_is_found_from_a_containers() {
        let of = |container| parent(container).display().to_string();
        assert_eq!(of("/kubepods/burstable/pod1/abc"), "kubepods/burstable/pod1");
        assert_eq!(of("/default/abc"), "default");
        assert_eq!(
            of("kubepods-burstable-pod1_2.slice:cri-containerd:abc"),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"
        );
        assert_eq!(of("system.slice:docker:abc"), "system.slice");
        assert_eq!(of("/../../a/b"), "a", "nothing is above the root");
        assert_eq!(of("abc"), "");
    }
}
