//! Unpacked root file systems: drafts, trees, their digests and their removal.
//!
//! A tree is made as a draft in `ingest`, and appears under its chain id only when it is whole and synced. A
//! tree goes by its name first. A draft that cannot be removed stands in nobody's way: it stays in `ingest`,
//! and the next check tries again. `layer` applies the layers.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use mote_spec::{Algorithm, Digest};

use crate::deep_tree::remove_tree;
use crate::error::{StoreError, UnpackError, disk_error};
use crate::hash::{self, Hasher};
use crate::layer;
use crate::layout::RootfsLayer;
use crate::store::{Store, entries_of};

/// Unpacks layers, lowest first, unless that was done before; returns the folder of the tree.
pub fn unpack(store: &Store, layers: &[RootfsLayer]) -> Result<PathBuf, UnpackError> {
    let target = store.rootfs_path(&chain_id(layers));
    if target.exists() {
        return Ok(target);
    }
    remove_abandoned(store)?;
    let draft = Draft::make(store)?;
    layer::apply_all(store, layers, &draft.path)?;
    publish(store, draft, &target)?;
    Ok(target)
}

/// A tree that is being made, or taken away: locked for as long, and removed at the end.
struct Draft {
    path: PathBuf,
    _lock: File,
}

impl Draft {
    /// A name in `ingest` that nobody has.
    fn path(store: &Store) -> Result<PathBuf, StoreError> {
        let mut random = [0; 8];
        let ingest = store.root().join("ingest");
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| disk_error("name a folder in", &ingest)(error.into()))?;
        Ok(ingest.join(format!("rootfs-{:016x}", u64::from_ne_bytes(random))))
    }

    fn make(store: &Store) -> Result<Draft, UnpackError> {
        loop {
            let path = Draft::path(store)?;
            fs::create_dir(&path).map_err(disk_error("make", &path))?;
            // Before it was locked it looked abandoned, and may have been removed.
            if let Some(lock) = lock_tree(&path)
                && path.exists()
            {
                return Ok(Draft { path, _lock: lock });
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What cannot be removed now is, before the next tree is made.
        let _ = remove_tree(&self.path);
    }
}

/// The lock of a tree, unless somebody makes it or uses it.
fn lock_tree(path: &Path) -> Option<File> {
    File::open(path).ok().filter(|folder| folder.try_lock().is_ok())
}

/// Removes the drafts of processes that were killed, as far as they can be removed.
pub(crate) fn remove_abandoned(store: &Store) -> Result<(), StoreError> {
    for path in entries_of(&store.root().join("ingest"))? {
        if path.is_dir()
            && let Some(_lock) = lock_tree(&path)
        {
            let _ = remove_tree(&path);
        }
    }
    Ok(())
}

/// Whether a tree is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    Yes,
    /// A container uses it.
    InUse,
}

/// Removes a tree unless a container uses it. Its name goes first, so that no half of it is ever
/// taken for the whole.
pub(crate) fn remove_unused(store: &Store, tree: &Path) -> Result<Removed, StoreError> {
    let Some(lock) = lock_tree(tree) else { return Ok(Removed::InUse) };
    let doomed = Draft { path: Draft::path(store)?, _lock: lock };
    let parent = store.root().join("rootfs");
    store.disk().rename(tree, &doomed.path).map_err(disk_error("rename", tree))?;
    store.disk().sync_dir(&parent).map_err(disk_error("sync", &parent))?;
    Ok(Removed::Yes)
}

/// Where the digest of a tree is written down.
fn remark(tree: &Path) -> PathBuf {
    tree.with_extension("tree")
}

/// Whether a tree is what was unpacked.
pub(crate) fn is_sound(tree: &Path) -> bool {
    let noted = fs::read_to_string(remark(tree)).ok().and_then(|text| text.parse::<Digest>().ok());
    noted.is_some() && tree_digest(tree).ok() == noted
}

/// The digest of all names, links and contents below a folder, each folder's in the order of their names.
fn tree_digest(tree: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let root = Dir::open_ambient_dir(tree, ambient_authority())?;
    // Folders that are being read, by what is left in them, in falling order.
    let mut open = vec![(PathBuf::from("."), names(&root)?)];
    while let Some((folder, left)) = open.last_mut() {
        let Some(name) = left.pop() else {
            open.pop();
            if !open.is_empty() {
                hasher.update(b"end ");
            }
            continue;
        };
        let path = folder.join(&name);
        if hash_entry(&root, &path, &name, &mut hasher)?.is_dir() {
            let names = names(&root.open_dir(&path)?)?;
            open.push((path, names));
        }
    }
    Ok(hasher.finish())
}

/// The names in a folder, the last one first.
fn names(dir: &Dir) -> io::Result<Vec<OsString>> {
    let entries = dir.entries()?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = entries.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

/// Hashes one entry; of a folder, only that it is one.
fn hash_entry(
    root: &Dir,
    path: &Path,
    name: &std::ffi::OsStr,
    hasher: &mut Hasher,
) -> io::Result<cap_std::fs::FileType> {
    let found = root.symlink_metadata(path)?;
    let mut note = |mark: &str, size: u64| {
        hasher.update(format!("{mark} {} {size} ", name.len()).as_bytes());
        hasher.update(name.as_encoded_bytes());
    };
    if found.is_dir() {
        note("dir", 0);
    } else if found.is_symlink() {
        let to = root.read_link_contents(path)?;
        note("link", to.as_os_str().len() as u64);
        hasher.update(to.as_os_str().as_encoded_bytes());
    } else {
        note("file", found.len());
        let (content, _) = hash::hash_reader(Algorithm::Sha256, root.open(path)?)?;
        hasher.update(content.hex().as_bytes());
    }
    Ok(found.file_type())
}

fn publish(store: &Store, draft: Draft, target: &Path) -> Result<(), UnpackError> {
    let path = &draft.path;
    let digest = tree_digest(path).map_err(disk_error("read", path))?;
    store.disk().sync_tree(path).map_err(disk_error("sync", path))?;
    let _alone = store.lock()?;
    if target.exists() {
        // Another process was quicker, with the same tree.
        return Ok(());
    }
    store.replace(&remark(target), digest.to_string().as_bytes())?;
    store.disk().rename(path, target).map_err(disk_error("rename", path))?;
    let parent = store.root().join("rootfs");
    store.disk().sync_dir(&parent).map_err(disk_error("sync", &parent))?;
    Ok(())
}

/// The name of a stack of layers (image-spec, "Layer ChainID"). Without diff ids the packed layers
/// name the tree just as well, only not across packings.
pub fn chain_id(layers: &[RootfsLayer]) -> Digest {
    let known: Option<Vec<&Digest>> = layers.iter().map(|layer| layer.diff_id.as_ref()).collect();
    let ids = known.unwrap_or_else(|| layers.iter().map(|layer| &layer.blob.digest).collect());
    let mut ids = ids.into_iter();
    let first = ids.next().cloned().unwrap_or_else(|| hash::sha256(b""));
    ids.fold(first, |chain, id| hash::sha256(format!("{chain} {id}").as_bytes()))
}

#[cfg(test)]
mod tests;
