//! The folder that a hostile archive is unpacked into.
//!
//! Links chain: an entry `s1/d/d/…` below a link `s1 -> s0/d/d/…` is as deep as both together. So the depth
//! of an entry is read off the open folder that it goes into ([`Target::depth`]), and not off its name, and
//! is bounded before anything is made.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use crate::bounds::{Budget, MAX_DEPTH, OverBudget};

/// An open folder, and the budget of what is unpacked below it.
pub struct Target<'a> {
    root: Dir,
    /// The folder's own path, without links.
    path: PathBuf,
    budget: &'a Budget,
}

impl<'a> Target<'a> {
    /// Unpacks below `root` on this budget.
    ///
    /// # Errors
    /// Fails if the kernel does not tell the folder's path.
    pub fn new(root: Dir, budget: &'a Budget) -> io::Result<Target<'a>> {
        Ok(Target { path: real_path(&root)?, root, budget })
    }

    /// The folder itself.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// What is left to unpack.
    pub fn budget(&self) -> &'a Budget {
        self.budget
    }

    /// Opens the folder that an entry goes into; makes the folders that the entry's path only implies,
    /// which count as entries.
    pub fn folder(&self, path: &Path) -> io::Result<Dir> {
        let parts: Vec<&OsStr> = path.iter().collect();
        if parts.len() > MAX_DEPTH {
            return Err(OverBudget::Depth.into());
        }
        let (mut folder, there) = self.nearest(&parts)?;
        let missing = &parts[there..];
        self.check_depth(&folder, missing.len())?;
        for name in missing {
            self.budget.take_entry()?;
            folder.create_dir(name)?;
            folder = folder.open_dir(name)?;
        }
        Ok(folder)
    }

    /// The deepest folder of a path that is there, and how many of its parts lead to it.
    fn nearest(&self, parts: &[&OsStr]) -> io::Result<(Dir, usize)> {
        for there in (1..=parts.len()).rev() {
            match self.root.open_dir(parts[..there].iter().collect::<PathBuf>()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return Ok((opened?, there)),
            }
        }
        Ok((self.root.try_clone()?, 0))
    }

    /// Checks that there may be `more` folders below an open one.
    pub fn check_depth(&self, folder: &Dir, more: usize) -> io::Result<()> {
        match self.depth(folder)?.saturating_add(more) > MAX_DEPTH {
            true => Err(OverBudget::Depth.into()),
            false => Ok(()),
        }
    }

    /// How deep an open folder is below the root, whatever links led to it.
    fn depth(&self, folder: &Dir) -> io::Result<usize> {
        let real = real_path(folder)?;
        let below = real.strip_prefix(&self.path).map_err(|_| io::ErrorKind::NotFound)?;
        Ok(below.components().count())
    }
}

/// The path of an open folder, as the kernel has it.
fn real_path(folder: &Dir) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}
