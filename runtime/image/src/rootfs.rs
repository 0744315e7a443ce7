//! Unpacks root file system layers (image-spec, "Image Layer Filesystem Changeset").
//!
//! Every path is walked with cap-std below the new folder, entry by entry, so that no name and no
//! link in a layer reaches outside. Devices, sockets and ownership are left out: a guest has no use
//! for them. A tree appears under its chain id only when it is whole and synced.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt};
use mote_spec::{Algorithm, Digest};

use crate::blob::{self, Hasher};
use crate::layout::RootfsLayer;
use crate::media::Packing;
use crate::store::{Store, StoreError, disk_error};
use crate::sweep::entries_of;

/// How much all layers together may become unpacked.
const MOST_BYTES: u64 = 8 << 30;
/// How many times their packed size that may be at most, above an allowance: what packs better than
/// any program does is made to fill disks.
const MOST_RATIO: u64 = 200;
const ALLOWANCE: u64 = 16 << 20;
/// How many entries all layers together may have.
const MOST_ENTRIES: u64 = 500_000;
/// The window that a zstd frame may ask for.
const ZSTD_WINDOW: u64 = 128 << 20;

/// Why layers cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("layer {digest} is not readable as a tar archive")]
    Tar { digest: Digest, source: io::Error },
    #[error("layer {digest} cannot place `{path}`")]
    Entry { digest: Digest, path: String, source: io::Error },
    #[error("layer {digest} names `{path}`, which is outside of its file system")]
    Outside { digest: Digest, path: String },
    #[error("the layers have more than {MOST_ENTRIES} entries")]
    TooLarge,
    #[error("layer {digest} unpacks to {found}, and the image's configuration says {expected}")]
    DiffId { digest: Digest, expected: Digest, found: Digest },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Unpacks layers, lowest first, unless that was done before; returns the folder of the tree.
pub fn unpack(store: &Store, layers: &[RootfsLayer]) -> Result<PathBuf, UnpackError> {
    let target = store.rootfs_path(&chain_id(layers));
    if target.exists() {
        return Ok(target);
    }
    remove_abandoned(store)?;
    let draft = Draft::make(store)?;
    unpack_into(store, layers, &draft.path)?;
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
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The lock of a tree, unless somebody makes it or uses it.
fn lock_tree(path: &Path) -> Option<File> {
    File::open(path).ok().filter(|folder| folder.try_lock().is_ok())
}

/// Removes the drafts of processes that were killed.
pub(crate) fn remove_abandoned(store: &Store) -> Result<(), StoreError> {
    for path in entries_of(&store.root().join("ingest"))? {
        if path.is_dir()
            && let Some(_lock) = lock_tree(&path)
        {
            fs::remove_dir_all(&path).map_err(disk_error("remove", &path))?;
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

/// The digest of all names, links and contents below a folder.
fn tree_digest(tree: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let dir = Dir::open_ambient_dir(tree, ambient_authority())?;
    hash_below(&dir, &mut hasher)?;
    Ok(hasher.finish())
}

fn hash_below(dir: &Dir, hasher: &mut Hasher) -> io::Result<()> {
    let mut entries = dir.entries()?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(cap_std::fs::DirEntry::file_name);
    for entry in entries {
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let mut note = |mark: &str, size: u64| {
            hasher.update(format!("{mark} {} {size} ", name.len()).as_bytes());
            hasher.update(name.as_encoded_bytes());
        };
        if kind.is_dir() {
            note("dir", 0);
            hash_below(&dir.open_dir(&name)?, hasher)?;
            hasher.update(b"end ");
        } else if kind.is_symlink() {
            let to = dir.read_link_contents(&name)?;
            note("link", to.as_os_str().len() as u64);
            hasher.update(to.as_os_str().as_encoded_bytes());
        } else {
            note("file", entry.metadata()?.len());
            let (content, _) = blob::hash_reader(Algorithm::Sha256, dir.open(&name)?)?;
            hasher.update(content.hex().as_bytes());
        }
    }
    Ok(())
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
    let first = ids.next().cloned().unwrap_or_else(|| blob::sha256(b""));
    ids.fold(first, |chain, id| blob::sha256(format!("{chain} {id}").as_bytes()))
}

fn unpack_into(store: &Store, layers: &[RootfsLayer], draft: &Path) -> Result<(), UnpackError> {
    let tree =
        Dir::open_ambient_dir(draft, ambient_authority()).map_err(disk_error("open", draft))?;
    let packed = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.blob.size));
    let most = packed.saturating_mul(MOST_RATIO).saturating_add(ALLOWANCE).min(MOST_BYTES);
    let mut budget = Budget { bytes: most, entries: MOST_ENTRIES };
    for layer in layers {
        let path = store.blob_path(&layer.blob.digest);
        let digest = &layer.blob.digest;
        let tar_error = |source| UnpackError::Tar { digest: digest.clone(), source };
        let open = || -> Result<Box<dyn Read>, UnpackError> {
            let file = File::open(&path).map_err(disk_error("open", &path))?;
            unpacked(file, layer.packing).map_err(tar_error)
        };
        check_names(open()?, most).map_err(tar_error)?;
        let found = apply(&tree, open()?, digest, &mut budget)?;
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

/// The longest name, and the longest record about an entry, that is read into memory.
const LONGEST_RECORD: u64 = 64 << 10;

/// Reads through an archive whose names are not put together, and refuses one in which they are
/// made to fill memory.
fn check_names(archive: impl Read, most: u64) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive.take(most));
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let kind = entry.header().entry_type();
        let is_record = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if is_record && entry.size() > LONGEST_RECORD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a name is longer than any file's",
            ));
        }
    }
    Ok(())
}

fn unpacked(file: File, packing: Packing) -> io::Result<Box<dyn Read>> {
    Ok(match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd_reader(file)?),
    })
}

fn zstd_reader(file: File) -> io::Result<impl Read> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    ZstdFrames::new(io::BufReader::with_capacity(64 << 10, file), decoder)
}

/// Reads frames one after another, as zstd files may have several (zstd:chunked does).
struct ZstdFrames<R: io::BufRead> {
    source: Option<R>,
    decoder: ruzstd::decoding::FrameDecoder,
    in_frame: bool,
}

impl<R: io::BufRead> ZstdFrames<R> {
    fn new(source: R, decoder: ruzstd::decoding::FrameDecoder) -> io::Result<Self> {
        Ok(ZstdFrames { source: Some(source), decoder, in_frame: false })
    }

    /// Starts the next frame; false at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        let Some(source) = self.source.as_mut() else { return Ok(false) };
        loop {
            if source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut *source) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = source.take(u64::from(length));
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
                }
            }
        }
    }
}

impl<R: io::BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy;
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() < buffer.len().min(64 << 10)
                && !self.decoder.is_finished()
            {
                let source = self.source.as_mut().expect("a frame is only read from a source");
                let step = BlockDecodingStrategy::UptoBytes(64 << 10);
                self.decoder.decode_blocks(source, step).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                })?;
            }
            match self.decoder.read(buffer)? {
                0 if self.decoder.is_finished() => self.in_frame = false,
                count => return Ok(count),
            }
        }
    }
}

struct Budget {
    bytes: u64,
    entries: u64,
}

/// A reader that hashes and counts what passes.
struct Tap<'a, R> {
    inner: R,
    hasher: Hasher,
    budget: &'a mut Budget,
}

impl<R: Read> Read for Tap<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.budget.bytes = self.budget.bytes.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "the layers unpack to too much")
        })?;
        Ok(count)
    }
}

/// Applies one layer to the tree and returns the digest of its tar.
fn apply(
    tree: &Dir,
    packed: impl Read,
    digest: &Digest,
    budget: &mut Budget,
) -> Result<Digest, UnpackError> {
    let tar_error = |source| UnpackError::Tar { digest: digest.clone(), source };
    let entries_left = budget.entries;
    let mut used = 0;
    // What this layer itself brought: its own whiteouts do not touch it.
    let mut placed = BTreeSet::new();
    let mut tap = Tap { inner: packed, hasher: Hasher::new(Algorithm::Sha256), budget };
    {
        let mut archive = tar::Archive::new(&mut tap);
        for entry in archive.entries().map_err(tar_error)? {
            let mut entry = entry.map_err(tar_error)?;
            used += 1;
            if used > entries_left {
                return Err(UnpackError::TooLarge);
            }
            place(tree, &mut entry, digest, &mut placed)?;
        }
    }
    // What follows the archive's end still belongs to the hash.
    io::copy(&mut tap, &mut io::sink()).map_err(tar_error)?;
    tap.budget.entries -= used;
    Ok(tap.hasher.finish())
}

fn place<R: Read>(
    tree: &Dir,
    entry: &mut tar::Entry<'_, R>,
    digest: &Digest,
    placed: &mut BTreeSet<PathBuf>,
) -> Result<(), UnpackError> {
    let tar_error = |source| UnpackError::Tar { digest: digest.clone(), source };
    let named = entry.path().map_err(tar_error)?.into_owned();
    let shown = named.display().to_string();
    let outside = || UnpackError::Outside { digest: digest.clone(), path: shown.clone() };
    let path = inside(&named).ok_or_else(outside)?;
    let failed =
        |source| UnpackError::Entry { digest: digest.clone(), path: shown.clone(), source };
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    if whiteout(tree, &path, placed).map_err(failed)? {
        return Ok(());
    }
    placed.insert(path.clone());
    if let Some(parent) = path.parent() {
        tree.create_dir_all(parent).map_err(failed)?;
    }
    let link = entry.link_name().map_err(tar_error)?.map(std::borrow::Cow::into_owned);
    match entry.header().entry_type() {
        tar::EntryType::Directory => place_dir(tree, &path).map_err(failed),
        tar::EntryType::GNUSparse => {
            // A few bytes that stand for terabytes: no budget would see them.
            let why = "it is a sparse file, which layers of guests have no use for";
            Err(failed(io::Error::new(io::ErrorKind::Unsupported, why)))
        }
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            clear(tree, &path).map_err(failed)?;
            place_file(tree, &path, entry).map_err(failed)
        }
        tar::EntryType::Symlink => {
            let link = link.ok_or_else(outside)?;
            clear(tree, &path).map_err(failed)?;
            // An absolute target stays what it is, as text: a guest resolves it below its own root
            // or not at all, and cap-std refuses to follow it out.
            tree.symlink_contents(&link, &path).map_err(failed)
        }
        tar::EntryType::Link => {
            let link = link.as_deref().and_then(inside).ok_or_else(outside)?;
            clear(tree, &path).map_err(failed)?;
            tree.hard_link(&link, tree, &path).map_err(failed)
        }
        // Devices and pipes mean nothing to a guest; headers that only describe are the archive's.
        _ => Ok(()),
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

/// Carries out a whiteout (image-spec, "Whiteouts"); false if the entry is none.
fn whiteout(tree: &Dir, path: &Path, placed: &BTreeSet<PathBuf>) -> io::Result<bool> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
    let Some(hidden) = name.strip_prefix(".wh.") else { return Ok(false) };
    let parent = path.parent().unwrap_or(Path::new(""));
    if hidden == ".wh..opq" {
        let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match tree.read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    hide(tree, &parent.join(entry?.file_name()), placed)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        return Ok(true);
    }
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout of no file"));
    }
    hide(tree, &parent.join(hidden), placed)?;
    Ok(true)
}

/// Removes what lower layers have at a path, and leaves what this layer has placed there.
fn hide(tree: &Dir, path: &Path, placed: &BTreeSet<PathBuf>) -> io::Result<()> {
    let below = |other: &PathBuf| other.starts_with(path);
    let keeps = placed.range(path.to_owned()..).next().is_some_and(below);
    if !keeps {
        return clear(tree, path);
    }
    if !tree.symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    for entry in tree.read_dir(path)? {
        hide(tree, &path.join(entry?.file_name()), placed)?;
    }
    Ok(())
}

/// Removes whatever is at a path, and follows no link.
fn clear(tree: &Dir, path: &Path) -> io::Result<()> {
    match tree.symlink_metadata(path) {
        Ok(found) if found.is_dir() => tree.remove_dir_all(path),
        Ok(_) => tree.remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn place_dir(tree: &Dir, path: &Path) -> io::Result<()> {
    match tree.symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            tree.remove_file(path)?;
            tree.create_dir(path)
        }
        Err(_) => tree.create_dir(path),
    }
}

fn place_file<R: Read>(tree: &Dir, path: &Path, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    let executable = entry.header().mode().unwrap_or(0o644) & 0o111 != 0;
    let mut file = tree.open_with(path, OpenOptions::new().write(true).create_new(true))?;
    io::copy(entry, &mut file)?;
    // Set-id bits and others' write access are nobody's business in a guest's tree.
    let mode = if executable { 0o755 } else { 0o644 };
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests;
