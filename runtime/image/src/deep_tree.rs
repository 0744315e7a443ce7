//! Walks over trees that images and guests have made, however deep they are: deeper than a path may be long,
//! than a stack bears, or than a process may have files open.
//!
//! Nothing here recurses. A walk that only looks keeps a list of paths; a removal empties every folder into
//! the topmost one by renaming, so that two folders are open at a time and each name moves at most once:
//!
//! ```text
//! top/a/b/c  --rename a/b to top/.mote-removes-0-->  top/a, top/.mote-removes-0/c  --> ...
//! ```

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes a file, or a folder and all below it.
///
/// # Errors
/// Fails at the first name that cannot be removed; what is left is still one tree.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        false => fs::remove_file(path),
        true => {
            empty(&File::open(path)?)?;
            fs::remove_dir(path)
        }
    }
}

/// Removes a name of an open folder, and all below it; follows no link.
///
/// # Errors
/// Fails at the first name that cannot be removed. That the name is not there is no error.
pub(crate) fn remove_at(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    match rustix::fs::unlinkat(&folder, &name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return gone_is_fine(other),
    }
    empty(&open_folder(&folder, &name)?)?;
    gone_is_fine(rustix::fs::unlinkat(&folder, &name, AtFlags::REMOVEDIR))
}

/// Bytes of the files below a folder, as far as it can be read and as paths reach (`PATH_MAX`).
pub fn bytes_below(folder: &Path) -> u64 {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) if found.is_file() => bytes += found.len(),
                _ => {}
            }
        }
    }
    bytes
}

/// Removes all that is in a folder.
fn empty(top: &File) -> io::Result<()> {
    let mut moved = Moved::default();
    loop {
        let names = names(top)?;
        if names.is_empty() {
            return Ok(());
        }
        for (name, kind) in names {
            remove_name(top, &name, kind, &mut moved)?;
        }
    }
}

fn open_folder(parent: impl AsFd, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?))
}

/// How many names at a time are taken note of.
const AT_A_TIME: usize = 4_096;

/// Some of what is in a folder.
fn names(folder: &File) -> io::Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
        if names.len() >= AT_A_TIME {
            break;
        }
    }
    Ok(names)
}

/// Removes a name, or empties the folder of that name into `top`.
fn remove_name(top: &File, name: &CStr, kind: FileType, moved: &mut Moved) -> io::Result<()> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(top, name, AtFlags::empty()) {
            // Some file systems do not tell of what kind a name is.
            Err(Errno::ISDIR | Errno::PERM) if kind == FileType::Unknown => {}
            other => return gone_is_fine(other),
        }
    }
    match rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return gone_is_fine(other),
    }
    let folder = open_folder(top, name)?;
    loop {
        let names = names(&folder)?;
        if names.is_empty() {
            return gone_is_fine(rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR));
        }
        for (name, _) in names {
            match rustix::fs::unlinkat(&folder, &name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => moved.up(&folder, &name, top)?,
                other => gone_is_fine(other)?,
            }
        }
    }
}

fn gone_is_fine(removed: rustix::io::Result<()>) -> io::Result<()> {
    match removed {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Folders that were moved up, by the names that they got.
#[derive(Default)]
struct Moved {
    number: u64,
}

impl Moved {
    /// Moves a folder to where `top` is, under a name that nobody has.
    fn up(&mut self, folder: &File, name: &CStr, top: &File) -> io::Result<()> {
        loop {
            let new = format!(".mote-removes-{}", self.number);
            self.number += 1;
            match rustix::fs::renameat_with(
                folder.as_fd(),
                name,
                top.as_fd(),
                new.as_bytes(),
                rustix::fs::RenameFlags::NOREPLACE,
            ) {
                // The guest knew what names these would get.
                Err(Errno::EXIST) => {}
                other => return Ok(other?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_trees_wide_trees_and_links_go() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, kept) = (folder.path().join("tree"), folder.path().join("kept"));
        fs::create_dir_all(tree.join("wide/.mote-removes-0/x")).unwrap();
        fs::write(&kept, "kept").unwrap();
        std::os::unix::fs::symlink(folder.path(), tree.join("link")).unwrap();
        for number in 0..5_000 {
            fs::write(tree.join(format!("wide/{number}")), "").unwrap();
        }
        // Deeper than a path can say: halves are joined by renaming.
        let mut deep = tree.join("deep");
        for _ in 0..20 {
            let inner = tree.join("inner");
            fs::create_dir_all(inner.join("d/".repeat(1_000))).unwrap();
            let chain = File::open(inner.join("d/".repeat(999))).unwrap();
            if deep.exists() {
                rustix::fs::renameat(rustix::fs::CWD, &deep, &chain, "more").unwrap();
            }
            fs::rename(&inner, &deep).unwrap();
        }
        deep.push("d");
        assert!(deep.exists());
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept", "a link is not followed");
    }
}
