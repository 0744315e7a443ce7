//! Mounts what a container sees: its root, and what the specification mounts below it.
//!
//! The mounts are in a namespace of the shim's own, so that they go with its process, however that ends.
//! A path below the root is walked with `openat2` inside the root: a link of the image leads nowhere else.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use containerd_shim_protos::api;
use mote_spec::{Access, DirGrant};
use oci_spec::runtime;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::bundle::Bundle;
use crate::error::ShimError;
use crate::overlay::Compact;

/// What a container sees, until it is unmounted.
#[derive(Clone)]
pub(crate) struct Rootfs {
    path: PathBuf,
    /// What it may reach.
    dirs: Vec<DirGrant>,
}

/// Gives this thread, and those that it will make, a mount namespace that sees what the host mounts and
/// keeps what it mounts to itself.
pub(crate) fn own_namespace() -> Result<(), ShimError> {
    let failed =
        |what| move |error: rustix::io::Errno| ShimError::System { what, source: error.into() };
    let flags = rustix::thread::UnshareFlags::NEWNS;
    // SAFETY: the process has one thread yet, and no file descriptors depend on the namespace.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(failed("make a mount namespace"))?;
    let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", down).map_err(failed("keep mounts apart"))
}

impl Rootfs {
    /// Mounts a container's root.
    pub(crate) fn mount(root: &Path, mounts: &[api::Mount]) -> Result<Rootfs, ShimError> {
        let file = |source| ShimError::File { path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(file)?;
        let rootfs = Rootfs { path: root.canonicalize().map_err(file)?, dirs: Vec::new() };
        for mount in mounts {
            mount_root(mount, &rootfs.path).inspect_err(|_| rootfs.unmount())?;
        }
        Ok(rootfs)
    }

    /// Mounts what belongs below a guest's root; an OCI runtime does that itself.
    pub(crate) fn mount_volumes(&mut self, bundle: &Bundle) -> Result<(), ShimError> {
        let guest = "/".parse().expect("it is a path");
        let access = bundle.root_access;
        self.disarm_root()?;
        self.dirs.push(DirGrant { host: self.path.clone(), guest, access });
        bundle.mounts.iter().try_for_each(|mount| self.mount_below(mount, access))
    }

    /// Takes devices and programs out of a guest's root: it is opened by this process, which is root, and
    /// an image may have a device's node. Nothing that is mounted below it has any, either.
    fn disarm_root(&self) -> Result<(), ShimError> {
        let failed = |error: rustix::io::Errno| ShimError::Mount {
            what: self.path.display().to_string(),
            target: self.path.clone(),
            source: error.into(),
        };
        // It may be a plain folder: then it becomes a mount of its own.
        rustix::mount::mount_bind_recursive(&self.path, &self.path).map_err(failed)?;
        let flags = MountFlags::BIND | HARMLESS | read_only(&self.path);
        rustix::mount::mount_remount(&self.path, flags, "").map_err(failed)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dirs(&self) -> Vec<DirGrant> {
        self.dirs.clone()
    }

    /// Mounts a volume; what only a process has a use for, such as `/proc`, is left out.
    fn mount_below(&mut self, mount: &runtime::Mount, root: Access) -> Result<(), ShimError> {
        let options: Vec<&str> = mount.options().iter().flatten().map(String::as_str).collect();
        let kind = mount.typ().as_deref().unwrap_or_default();
        let is_bind = kind == "bind" || options.iter().any(|one| matches!(*one, "bind" | "rbind"));
        let destination = mount.destination();
        if !is_bind && (kind != "tmpfs" || destination.starts_with("/dev")) {
            return Ok(());
        }
        let source = mount.source().clone().unwrap_or_default();
        let failed = |source_error: io::Error| ShimError::Mount {
            what: if is_bind { source.display().to_string() } else { kind.to_owned() },
            target: destination.clone(),
            source: source_error,
        };
        let is_folder = !is_bind || std::fs::metadata(&source).map_err(failed)?.is_dir();
        let place = Place::make(&self.path, destination, is_folder).map_err(failed)?;
        let read_only = options.contains(&"ro");
        if is_bind {
            rustix::mount::mount_bind_recursive(&source, place.path())
                .map_err(|error| failed(error.into()))?;
            // Once more: what is there now is the mount.
            let mounted = Place::find(&self.path, destination).map_err(failed)?;
            let own = match read_only {
                true => MountFlags::RDONLY,
                false => self::read_only(&mounted.path()),
            };
            rustix::mount::mount_remount(mounted.path(), MountFlags::BIND | HARMLESS | own, "")
                .map_err(|error| failed(error.into()))?;
        } else {
            let (flags, data) = split_options(&options);
            let flags = flags | HARMLESS;
            mount_new("tmpfs", place.path(), "tmpfs", (flags, &data)).map_err(failed)?;
        }
        // Below a root that is read-only, a volume that is not needs a grant of its own.
        if is_folder && !read_only && root == Access::ReadOnly {
            let mounted = Place::find(&self.path, destination).map_err(failed)?;
            let host = std::fs::read_link(mounted.path()).map_err(failed)?;
            let guest = destination.display().to_string().parse()?;
            self.dirs.push(DirGrant { host, guest, access: Access::ReadWrite });
        }
        Ok(())
    }

    /// Unmounts all of it.
    pub(crate) fn unmount(&self) {
        // The root with what is below it; another mount may lie on top of the same place.
        while rustix::mount::unmount(&self.path, UnmountFlags::DETACH).is_ok() {}
    }
}

/// How a guest sees files: no device among them is one, and nobody executes them.
const HARMLESS: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// What is mounted read-only stays so when it is mounted once more.
fn read_only(path: &Path) -> MountFlags {
    let flags = rustix::fs::statvfs(path).map(|found| found.f_flag);
    match flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::RDONLY)) {
        true => MountFlags::RDONLY,
        false => MountFlags::empty(),
    }
}

/// A place below a root, found without leaving it.
struct Place(OwnedFd);

impl Place {
    fn find(root: &Path, below: &Path) -> io::Result<Place> {
        let root = open_root(root)?;
        Ok(Place(open_in(&root, &relative(below))?))
    }

    /// Finds a place, and makes it if it is not there.
    fn make(root: &Path, below: &Path, is_folder: bool) -> io::Result<Place> {
        let root = open_root(root)?;
        let parts: Vec<PathBuf> =
            relative(below).components().map(|part| part.as_os_str().into()).collect();
        let (mut parent, mut walked) = (open_in(&root, Path::new("."))?, PathBuf::new());
        for (number, part) in parts.iter().enumerate() {
            walked.push(part);
            let last = number + 1 == parts.len();
            match open_in(&root, &walked) {
                Ok(found) => {
                    parent = found;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if last && !is_folder {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, part, flags, Mode::from(0o644))?;
            } else {
                rustix::fs::mkdirat(&parent, part, Mode::from(0o755))?;
            }
            parent = open_in(&root, &walked)?;
        }
        Ok(Place(parent))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root, flags, Mode::empty())?)
}

fn open_in(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

fn relative(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    parts.collect()
}

/// Mounts what containerd has prepared as a container's root.
fn mount_root(mount: &api::Mount, target: &Path) -> Result<(), ShimError> {
    let options: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    let failed = |source: io::Error| ShimError::Mount {
        what: mount.source.clone(),
        target: target.to_owned(),
        source,
    };
    let (flags, data) = split_options(&options);
    if options.iter().any(|one| matches!(*one, "bind" | "rbind")) || mount.type_ == "bind" {
        rustix::mount::mount_bind_recursive(mount.source.as_str(), target)
            .map_err(|error| failed(error.into()))?;
        let wanted = flags | MountFlags::BIND;
        return match flags.is_empty() {
            true => Ok(()),
            false => rustix::mount::mount_remount(target, wanted, "")
                .map_err(|error| failed(error.into())),
        };
    }
    mount_new(&mount.source, target, &mount.type_, (flags, &data)).map_err(failed)
}

fn mount_new(
    source: &str,
    target: impl AsRef<Path> + Sync,
    kind: &str,
    (flags, data): (MountFlags, &str),
) -> io::Result<()> {
    let mount = |data: &str| -> io::Result<()> {
        let data = CString::new(data).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(rustix::mount::mount(source, target.as_ref(), kind, flags, data.as_c_str())?)
    };
    match Compact::of(data)? {
        Some(compact) => compact.there(|| mount(&compact.data)),
        None => mount(data),
    }
}

/// Parts mount options into flags and what is the file system's own.
fn split_options(options: &[&str]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match *option {
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            // Said by the call that mounts, or by nothing; propagation is this namespace's own.
            "rw" | "bind" | "rbind" | "defaults" | "private" | "rprivate" | "slave" | "rslave"
            | "shared" | "rshared" | "tmpcopyup" | "exec" | "dev" | "suid" | "async" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parted_into_flags_and_the_file_systems_own() {
        let (flags, data) = split_options(&["ro", "nosuid", "lowerdir=/a:/b", "rbind", "size=1m"]);
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(data, "lowerdir=/a:/b,size=1m");
    }

    #[test]
    fn a_place_is_never_outside_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::os::unix::fs::symlink("../..", root.join("up")).unwrap();
        for path in ["/link/x", "/up/outside/x", "/../outside/x"] {
            // A link to nowhere inside is an error, or a place inside.
            if let Ok(place) = Place::make(&root, Path::new(path), true) {
                let real = std::fs::read_link(place.path()).unwrap();
                assert!(real.starts_with(&root), "{path} is {}", real.display());
            }
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        let file = Place::make(&root, Path::new("/etc/hosts"), false).unwrap();
        assert!(std::fs::metadata(file.path()).unwrap().is_file());
    }
}
