//! Applies root file system layers (image-spec, "Image Layer Filesystem Changeset") to a draft.
//!
//! Every path is walked with cap-std below the draft, entry by entry, so that no name and no link in a layer
//! reaches outside. Devices, sockets and ownership are left out: a guest has no use for them.
//!
//! [`Target`] bounds how deep entries lie.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt};
use mote_spec::{Algorithm, Digest};

use crate::bounds::{self, Bounded, Budget, OverBudget};
use crate::deep_tree::remove_at;
use crate::error::{UnpackError, disk_error};
use crate::hash::Hasher;
use crate::layout::RootfsLayer;
use crate::packing::unpacked;
use crate::store::Store;
use crate::target::Target;

/// Applies layers, lowest first, to a folder that is empty.
pub(crate) fn apply_all(
    store: &Store,
    layers: &[RootfsLayer],
    draft: &Path,
) -> Result<(), UnpackError> {
    let packed = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.blob.size));
    let budget = Budget::for_packed(packed, draft);
    let root = Dir::open_ambient_dir(draft, ambient_authority());
    let target = root.and_then(|root| Target::new(root, &budget));
    let tree = Tree(target.map_err(disk_error("open", draft))?);
    for layer in layers {
        let (path, digest) = (store.blob_path(&layer.blob.digest), &layer.blob.digest);
        let file = File::open(&path).map_err(disk_error("open", &path))?;
        let tar = unpacked(file, layer.packing).map_err(|error| Fault::Tar(error).of(digest))?;
        let found = apply(&tree, tar).map_err(|fault| fault.of(digest))?;
        match &layer.diff_id {
            Some(expected) if *expected != found => {
                return Err(UnpackError::DiffId {
                    digest: digest.clone(),
                    expected: expected.clone(),
                    found,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Why one entry, or the archive around it, cannot be applied; the layer is not named yet.
enum Fault {
    Tar(io::Error),
    Entry { path: PathBuf, source: io::Error },
    Outside { path: PathBuf },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Tar(error)
    }
}

impl Fault {
    /// The same, of a layer. A bound that is hit in the middle of a read is told as one.
    fn of(self, digest: &Digest) -> UnpackError {
        let digest = digest.clone();
        let over = |error: &io::Error| error.get_ref()?.downcast_ref::<OverBudget>().copied();
        match self {
            Fault::Tar(source) | Fault::Entry { source, .. } if over(&source).is_some() => {
                let source = over(&source).expect("it was there");
                UnpackError::OverBudget { digest, source }
            }
            Fault::Tar(source) => UnpackError::Tar { digest, source },
            Fault::Entry { path, source } => {
                UnpackError::Entry { digest, path: path.display().to_string(), source }
            }
            Fault::Outside { path } => {
                UnpackError::Outside { digest, path: path.display().to_string() }
            }
        }
    }
}

/// A reader that hashes what passes.
struct Tap<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Applies one layer and returns the digest of its tar.
fn apply(tree: &Tree<'_>, tar: impl Read) -> Result<Digest, Fault> {
    let budget = tree.0.budget();
    // Paths that this layer itself brought: its own whiteouts do not touch them.
    let mut placed = BTreeSet::new();
    let hasher = Hasher::new(Algorithm::Sha256);
    let mut tap = Tap { inner: Bounded::new(tar, budget), hasher };
    let mut archive = tar::Archive::new(&mut tap);
    let mut entries = archive.entries()?;
    while let Some(entry) = budget.next_entry(&mut entries) {
        let mut entry = entry?;
        tree.place(&mut entry, &mut placed)?;
        bounds::drain(&mut entry)?;
    }
    // The hash covers also bytes behind the archive's end.
    io::copy(&mut tap, &mut io::sink())?;
    Ok(tap.hasher.finish())
}

/// The folder that layers are applied to.
struct Tree<'a>(Target<'a>);

impl Tree<'_> {
    /// Places one entry, or carries out its whiteout.
    fn place<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        placed: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Fault> {
        let named = entry.path()?.into_owned();
        let outside = || Fault::Outside { path: named.clone() };
        let path = inside(&named).ok_or_else(outside)?;
        let failed = |source| Fault::Entry { path: named.clone(), source };
        let Some(name) = path.file_name() else { return Ok(()) };
        if self.whiteout(&path, placed).map_err(failed)? {
            return Ok(());
        }
        self.0.budget().take_name(&path).map_err(|error| failed(error.into()))?;
        placed.insert(path.clone());
        let folder = self.0.folder(path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        match entry.header().entry_type() {
            tar::EntryType::Directory => self.place_dir(&folder, name).map_err(failed),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                remove_at(&folder, name).map_err(failed)?;
                place_file(&folder, name, entry).map_err(failed)
            }
            tar::EntryType::Symlink => {
                let link = link.ok_or_else(outside)?;
                remove_at(&folder, name).map_err(failed)?;
                // An absolute target stays what it is, as text: a guest resolves it below its own root
                // or not at all, and cap-std refuses to follow it out.
                folder.symlink_contents(&link, name).map_err(failed)
            }
            tar::EntryType::Link => {
                let link = link.as_deref().and_then(inside).ok_or_else(outside)?;
                remove_at(&folder, name).map_err(failed)?;
                self.0.root().hard_link(&link, &folder, name).map_err(failed)
            }
            // Devices and pipes mean nothing to a guest; headers that only describe are the archive's.
            _ => Ok(()),
        }
    }

    fn place_dir(&self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        match folder.symlink_metadata(name) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => folder.remove_file(name)?,
            Err(_) => {}
        }
        self.0.check_depth(folder, 1)?;
        folder.create_dir(name)
    }

    /// Carries out a whiteout (image-spec, "Whiteouts"); false if the entry is none.
    fn whiteout(&self, path: &Path, placed: &BTreeSet<PathBuf>) -> io::Result<bool> {
        let Some(name) = path.file_name().and_then(OsStr::to_str) else { return Ok(false) };
        let Some(hidden) = name.strip_prefix(".wh.") else { return Ok(false) };
        let parent = path.parent().unwrap_or(Path::new(""));
        if hidden == ".wh..opq" {
            for name in self.names(parent)? {
                self.hide(parent.join(name), placed)?;
            }
            return Ok(true);
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout of no file"));
        }
        self.hide(parent.join(hidden), placed)?;
        Ok(true)
    }

    /// Removes the files of lower layers at a path, and leaves those that this layer has placed there.
    fn hide(&self, path: PathBuf, placed: &BTreeSet<PathBuf>) -> io::Result<()> {
        let mut doomed = vec![path];
        while let Some(path) = doomed.pop() {
            self.0.budget().take_look()?;
            let below = |other: &PathBuf| other.starts_with(&path);
            if !placed.range(path.clone()..).next().is_some_and(below) {
                self.clear(&path)?;
            } else if self.0.root().symlink_metadata(&path)?.is_dir() {
                doomed.extend(self.names(&path)?.into_iter().map(|name| path.join(name)));
            }
        }
        Ok(())
    }

    /// The names in a folder; none if it is not there.
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match self.0.root().read_dir(path) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Removes whatever is at a path, and follows no link at its end.
    fn clear(&self, path: &Path) -> io::Result<()> {
        let (Some(name), parent) = (path.file_name(), path.parent()) else { return Ok(()) };
        let opened = match parent {
            None => self.0.root().try_clone(),
            Some(parent) if parent.as_os_str().is_empty() => self.0.root().try_clone(),
            Some(parent) => self.0.root().open_dir(parent),
        };
        match opened {
            Ok(folder) => remove_at(&folder, name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The path relative to the tree; `None` if it would climb out.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(relative)
}

fn place_file<R: Read>(
    folder: &Dir,
    name: &OsStr,
    entry: &mut tar::Entry<'_, R>,
) -> io::Result<()> {
    let executable = entry.header().mode().unwrap_or(0o644) & 0o111 != 0;
    let mut file = folder.open_with(name, OpenOptions::new().write(true).create_new(true))?;
    io::copy(entry, &mut file)?;
    // Set-id bits and others' write access are nobody's business in a guest's tree.
    let mode = if executable { 0o755 } else { 0o644 };
    file.set_permissions(Permissions::from_mode(mode))
}
