//! Turns grants into authority: open directories, and gates for sockets.
//!
//! The only place that does. A directory is opened once, checked on the open handle, and given to
//! the guest through that handle, so that swapping the path afterwards changes nothing.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use mote_spec::{Access, Bytes, DirGrant, Grants, Scratch, UserId};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::net_gate::NetGate;

/// What a guest holds while it runs.
pub(crate) struct Handles {
    pub(crate) dirs: Vec<OpenDir>,
    /// The working directory once more, as `.`: the C libraries of guests start relative paths at the
    /// first directory of that name, and know no other way.
    pub(crate) cwd: Option<OpenDir>,
    pub(crate) net: Arc<NetGate>,
}

/// What may be written below one directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) most: u64,
}

impl Budget {
    pub(crate) fn new(most: Bytes) -> Budget {
        Budget { most: most.get() }
    }
}

/// A directory that the guest sees.
pub(crate) struct OpenDir {
    handle: OwnedFd,
    pub(crate) guest: String,
    pub(crate) access: Access,
    /// What may be written below it, where it has a bound of its own.
    pub(crate) budget: Option<Budget>,
}

impl OpenDir {
    /// A path that leads to the open directory, whatever happens to its name.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The same directory with a bound, for tests of what bounds it.
    #[cfg(test)]
    pub(crate) fn reopened(dir: &File, most: Bytes) -> OpenDir {
        let handle = dir.try_clone().unwrap().into();
        let budget = Some(Budget::new(most));
        OpenDir { handle, guest: "/again".to_owned(), access: Access::ReadWrite, budget }
    }

    /// The directory again, to look through what is below it.
    pub(crate) fn open_again(&self) -> io::Result<File> {
        File::open(self.path())
    }
}

/// Opens an open directory once more, to list it: the new one has a place of its own in the list.
///
/// # Errors
/// Fails if it may not be read.
pub(crate) fn open_to_list(dir: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, c".", flags, Mode::empty())?)
}

/// An image's own files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootFiles {
    pub tree: PathBuf,
    /// The program within the tree.
    pub program: PathBuf,
    /// How much may be written to the copy of the tree.
    pub size: Bytes,
}

/// An image's files, and their copy where the container may write to it.
#[derive(Clone, Copy)]
pub(crate) struct RootDir<'a> {
    pub(crate) files: &'a RootFiles,
    pub(crate) copy: Option<&'a Path>,
}

/// Opens all that is granted. `scratch` is an empty folder of the container's own.
pub(crate) fn open(
    grants: &Grants,
    root: Option<RootDir<'_>>,
    scratch: Option<&Path>,
    cwd: Option<&str>,
) -> Result<Handles, EngineError> {
    let mut dirs = Vec::new();
    if let Some(root) = root {
        dirs.push(open_root(root.files, root.copy)?);
    }
    for grant in &grants.dirs {
        dirs.push(open_granted(grant)?);
    }
    for (number, grant) in grants.scratch.iter().enumerate() {
        dirs.push(open_scratch(grant, number, scratch)?);
    }
    let cwd = match cwd {
        Some(cwd) => open_cwd(&dirs, cwd)?,
        None => None,
    };
    Ok(Handles { dirs, cwd, net: NetGate::new(&grants.net) })
}

impl Handles {
    /// Gives what was made for a container, its scratch space and its copy of the root, to the user that its
    /// process is to be.
    pub(crate) fn give_to(&self, user: UserId) -> Result<(), EngineError> {
        let own = self.dirs.iter().filter(|dir| dir.budget.is_some());
        for dir in own {
            let failed = |source| EngineError::Scratch { path: dir.path(), source };
            give_tree(dir, user).map_err(failed)?;
        }
        Ok(())
    }
}

/// Gives a folder and all below it to a user, links themselves and not what they lead to.
fn give_tree(top: &OpenDir, user: UserId) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    rustix::fs::fchown(&top.handle, uid, gid)?;
    let root = Dir::open_ambient_dir(top.path(), ambient_authority())?;
    let mut folders = vec![PathBuf::from(".")];
    while let Some(below) = folders.pop() {
        let folder = root.open_dir(&below)?;
        for entry in folder.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            rustix::fs::chownat(&folder, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            if entry.file_type()?.is_dir() {
                folders.push(below.join(&name));
            }
        }
    }
    Ok(())
}

/// Opens the working directory below the grant that it is in. The root needs no grant.
fn open_cwd(dirs: &[OpenDir], cwd: &str) -> Result<Option<OpenDir>, EngineError> {
    let below = |dir: &OpenDir| Path::new(cwd).strip_prefix(&dir.guest).ok().map(Path::to_owned);
    let inside = dirs.iter().filter(|dir| below(dir).is_some());
    let missing = || EngineError::WorkingFolder { path: cwd.to_owned() };
    let Some(dir) = inside.max_by_key(|dir| dir.guest.len()) else {
        return if cwd == "/" { Ok(None) } else { Err(missing()) };
    };
    let path = below(dir).filter(|path| !path.as_os_str().is_empty());
    let open = || {
        let root = Dir::open_ambient_dir(dir.path(), ambient_authority())?;
        match path {
            Some(path) => root.open_dir(path),
            None => Ok(root),
        }
    };
    let opened = open().map_err(|_| missing())?;
    let handle = open_dir(Path::new(&format!("/proc/self/fd/{}", opened.as_raw_fd())))?;
    Ok(Some(OpenDir { handle, guest: ".".to_owned(), access: dir.access, budget: None }))
}

fn open_granted(grant: &DirGrant) -> Result<OpenDir, EngineError> {
    let handle = open_dir(&grant.host)?;
    // The policy was decided on this very path: a link in it would lead where nobody decided.
    let real = fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()))
        .map_err(|source| EngineError::Directory { path: grant.host.clone(), source })?;
    if real != grant.host {
        return Err(EngineError::Link { path: grant.host.clone(), real });
    }
    refuse_the_kernels(&handle, &grant.host)?;
    Ok(OpenDir { handle, guest: grant.guest.to_string(), access: grant.access, budget: None })
}

/// Refuses the kernel's own file systems: whoever reads and writes there is this process, and not a guest.
fn refuse_the_kernels(handle: &OwnedFd, path: &Path) -> Result<(), EngineError> {
    /// proc, sysfs, cgroup, cgroup2, securityfs, debugfs and tracefs (linux/magic.h).
    const KERNELS: [u64; 7] =
        [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x7363_6673, 0x6462_6720, 0x7472_6163];
    let found = rustix::fs::fstatfs(handle)
        .map_err(|error| EngineError::Directory { path: path.to_owned(), source: error.into() })?;
    match KERNELS.contains(&(found.f_type as u64)) {
        true => Err(EngineError::Kernels { path: path.to_owned() }),
        false => Ok(()),
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, EngineError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOTDIR => EngineError::NotDirectory { path: path.to_owned() },
        error => EngineError::Directory { path: path.to_owned(), source: error.into() },
    })
}

fn open_scratch(
    grant: &Scratch,
    number: usize,
    scratch: Option<&Path>,
) -> Result<OpenDir, EngineError> {
    let path = make_scratch(scratch, &number.to_string())?;
    Ok(OpenDir {
        handle: open_dir(&path)?,
        guest: grant.guest.to_string(),
        access: Access::ReadWrite,
        budget: Some(Budget::new(grant.size)),
    })
}

fn make_scratch(scratch: Option<&Path>, name: &str) -> Result<PathBuf, EngineError> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the container has no folder for it");
    let failed = |path: &Path, source| EngineError::Scratch { path: path.to_owned(), source };
    let folder = scratch.ok_or_else(|| failed(Path::new(name), missing()))?;
    let path = folder.join(name);
    fs::create_dir(&path).map_err(|source| failed(&path, source))?;
    Ok(path)
}

/// Opens an image's files as the container's root: the tree itself, or the copy that the container may write to.
fn open_root(root: &RootFiles, copy: Option<&Path>) -> Result<OpenDir, EngineError> {
    let (path, access, budget) = match copy {
        None => (root.tree.as_path(), Access::ReadOnly, None),
        Some(copy) => (copy, Access::ReadWrite, Some(Budget::new(root.size))),
    };
    Ok(OpenDir { handle: open_dir(path)?, guest: "/".to_owned(), access, budget })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapping_the_path_after_it_was_opened_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (good, evil) = (folder.path().join("good"), folder.path().join("evil"));
        fs::create_dir(&good).unwrap();
        fs::create_dir(&evil).unwrap();
        fs::write(good.join("mark"), "good").unwrap();
        fs::write(evil.join("mark"), "evil").unwrap();
        let grants = Grants {
            dirs: vec![format!("{}:/data", good.display()).parse().unwrap()],
            ..Grants::default()
        };
        let handles = open(&grants, None, None, None).unwrap();
        fs::rename(&good, folder.path().join("gone")).unwrap();
        std::os::unix::fs::symlink(&evil, &good).unwrap();
        assert_eq!(fs::read_to_string(handles.dirs[0].path().join("mark")).unwrap(), "good");
    }

    #[test]
    fn a_link_is_not_followed_to_where_nobody_decided() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        let grants = Grants {
            dirs: vec![format!("{}/link:/data", folder.path().display()).parse().unwrap()],
            ..Grants::default()
        };
        assert!(matches!(open(&grants, None, None, None), Err(EngineError::Link { .. })));
    }

    #[test]
    fn only_directories_are_granted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let grants = |name: &str| Grants {
            dirs: vec![format!("{}/{name}:/data", folder.path().display()).parse().unwrap()],
            ..Grants::default()
        };
        assert!(matches!(
            open(&grants("file"), None, None, None),
            Err(EngineError::NotDirectory { .. })
        ));
        assert!(matches!(
            open(&grants("none"), None, None, None),
            Err(EngineError::Directory { .. })
        ));
    }
}
