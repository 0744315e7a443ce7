//! Reads images from folders and archives.
//!
//! All three forms (an OCI layout's folder, the same as a tar, `docker save`'s tar) are files with
//! names; a blob is copied into the store under the digest that it must have.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mote_spec::{Algorithm, Digest, ImageRef};
use serde::Deserialize;

use crate::bounds::{Bounded, Budget};
use crate::error::StoreError;
use crate::hash;
use crate::manifest::{
    Descriptor, Document, Index, LARGEST_MANIFEST, Manifest, ManifestError, Platform,
};
use crate::media;
use crate::select::{self, SelectError};
use crate::store::{REF_NAME, Store, Stored};

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is empty")]
    Empty { path: PathBuf },
    #[error("{path} is not a tar archive, packed with gzip or not")]
    NoTar { path: PathBuf },
    #[error("{path} is cut off within {file}")]
    CutOff { path: PathBuf, file: String },
    #[error("{path} holds no {file}; is it an image?")]
    NoFile { path: PathBuf, file: String },
    #[error("{file} of {path} cannot be understood")]
    Json { path: PathBuf, file: String, source: serde_json::Error },
    #[error("a manifest of {path} cannot be read")]
    Manifest { path: PathBuf, source: ManifestError },
    #[error("{path} cannot run here")]
    Select { path: PathBuf, source: SelectError },
    #[error("{path} has no image `{tag}`; it has {has}")]
    NoTag { path: PathBuf, tag: String, has: String },
    #[error("{path} has several images; name one behind a colon: {has}")]
    Several { path: PathBuf, has: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Files that are found by name.
trait Files {
    fn path(&self) -> &Path;
    /// Opens a file, or says that there is none.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>>;
}

struct Folder(PathBuf);

struct Tar {
    path: PathBuf,
    file: File,
    /// Where each file starts, and how long it is.
    index: HashMap<String, (u64, u64)>,
}

impl Files for Folder {
    fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.0.join(name))?))
    }
}

impl Files for Tar {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        let (start, length) = *self.index.get(name).ok_or(io::ErrorKind::NotFound)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(start))?;
        Ok(Box::new(file.take(length)))
    }
}

impl Tar {
    /// Reads the archive's directory. `shown` is what it is called in messages.
    fn open(store: &Store, file: File, shown: &Path) -> Result<Tar, ArchiveError> {
        let path = || shown.to_owned();
        let failed = |source| ArchiveError::Read { path: path(), source };
        let file = plain(store, file).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size == 0 {
            return Err(ArchiveError::Empty { path: path() });
        }
        let budget = Budget::for_packed(size, store.root());
        let mut archive = tar::Archive::new(Bounded::new(&file, &budget));
        let mut entries = archive.entries_with_seek().map_err(failed)?;
        let mut index = HashMap::new();
        let mut links = Vec::new();
        while let Some(entry) = budget.next_entry(&mut entries) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if index.is_empty() && error.kind() != io::ErrorKind::FileTooLarge => {
                    return Err(ArchiveError::NoTar { path: path() });
                }
                Err(source) => return Err(failed(source)),
            };
            let name = entry.path().map_err(failed)?;
            budget.take_name(&name).map_err(|error| failed(error.into()))?;
            let name = name.to_string_lossy();
            let name = name.trim_start_matches("./").to_owned();
            if entry.raw_file_position().saturating_add(entry.size()) > size {
                return Err(ArchiveError::CutOff { path: path(), file: name });
            }
            match entry.link_name().map_err(failed)? {
                // `docker save` writes a layer that it has already written as a link to it.
                Some(to) => {
                    budget.take_name(&to).map_err(|error| failed(error.into()))?;
                    links.push((name.clone(), joined(&name, &to.to_string_lossy())));
                }
                None => drop(index.insert(name, (entry.raw_file_position(), entry.size()))),
            }
        }
        for (name, to) in links {
            if let Some(place) = index.get(&to).copied() {
                index.insert(name, place);
            }
        }
        Ok(Tar { path: path(), file, index })
    }

    fn of_path(store: &Store, path: &Path) -> Result<Tar, ArchiveError> {
        let failed = |source| ArchiveError::Read { path: path.to_owned(), source };
        Tar::open(store, File::open(path).map_err(failed)?, path)
    }
}

/// Keeps a stream in a file without a name, since an archive is read here and there: on the disk that its images
/// are to be on, and for no longer than this process lives.
///
/// # Errors
/// Fails as the stream or the disk does, and when the stream is longer than the disk's free space.
pub fn spool(store: &Store, mut stream: impl Read) -> io::Result<File> {
    let budget = Budget::for_stream(store.root());
    kept(store, Bounded::new(&mut stream, &budget))
}

/// The archive itself, or a copy of one that is packed with gzip.
fn plain(store: &Store, mut file: File) -> io::Result<File> {
    let mut magic = [0; 2];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    if magic[..read] != [0x1f, 0x8b] {
        return Ok(file);
    }
    let budget = Budget::for_packed(file.metadata()?.len(), store.root());
    let unpacked = flate2::read::MultiGzDecoder::new(io::BufReader::new(file));
    kept(store, Bounded::new(unpacked, &budget))
}

fn kept(store: &Store, mut from: impl Read) -> io::Result<File> {
    let mut copy = tempfile::tempfile_in(store.root().join("ingest"))?;
    io::copy(&mut from, &mut copy)?;
    copy.rewind()?;
    Ok(copy)
}

/// Resolves a link's text against the folder of the link, within the archive.
fn joined(name: &str, link: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// An image that was copied into the store, where it has no name.
pub struct Imported {
    pub stored: Stored,
    /// What it is called where it came from: a reference, or only a tag.
    pub called: Option<String>,
}

/// Copies an image of an OCI layout's folder into the store.
pub fn import_oci_dir(
    store: &Store,
    path: &Path,
    tag: Option<&str>,
    platform: Option<&Platform>,
) -> Result<Imported, ArchiveError> {
    import_oci(store, &Folder(path.to_owned()), tag, platform)
}

/// Copies the only image of an OCI archive into the store.
pub fn import_oci_archive(
    store: &Store,
    path: &Path,
    platform: Option<&Platform>,
) -> Result<Imported, ArchiveError> {
    import_oci(store, &Tar::of_path(store, path)?, None, platform)
}

fn import_oci(
    store: &Store,
    files: &dyn Files,
    tag: Option<&str>,
    platform: Option<&Platform>,
) -> Result<Imported, ArchiveError> {
    let _lease = store.lease()?;
    let entry = pick(files, &oci_index(files)?, tag)?;
    let stored = import_entry(store, files, &entry, platform)?;
    Ok(Imported { stored, called: entry_name(&entry).map(str::to_owned) })
}

/// Copies the first image of a `docker save` archive into the store.
pub fn import_docker_archive(store: &Store, path: &Path) -> Result<Imported, ArchiveError> {
    let _lease = store.lease()?;
    let files = Tar::of_path(store, path)?;
    let images = docker_images(&files)?;
    let missing = || ArchiveError::NoFile { path: path.to_owned(), file: "image".into() };
    let image = images.first().ok_or_else(missing)?;
    let stored = import_docker(store, &files, image)?;
    let called = image.repo_tags.iter().flatten().next().cloned();
    Ok(Imported { stored, called })
}

/// The name that an image gets here: its own where that is a whole reference, else below
/// `localhost`, after the folder or file that it came from, with its own tag.
pub fn local_name(from: Option<&Path>, called: Option<&str>) -> Option<ImageRef> {
    if let Some(called) = called.filter(|called| called.contains(['/', ':'])) {
        return called.parse().ok();
    }
    let stem = from?.file_stem()?.to_str()?.to_ascii_lowercase();
    format!("localhost/{stem}:{}", called.unwrap_or("latest")).parse().ok()
}

/// Loads every image of an archive of either form, under the names that it has there. An image with
/// only a tag is called after the archive's path, where it has one.
pub fn load(
    store: &Store,
    archive: File,
    path: Option<&Path>,
) -> Result<Vec<Stored>, ArchiveError> {
    let lease = store.lease()?;
    let files = Tar::open(store, archive, path.unwrap_or(Path::new("standard input")))?;
    let mut loaded = Vec::new();
    let mut list = |stored: Stored, name: Option<ImageRef>| -> Result<(), ArchiveError> {
        store.list(&lease, name.as_ref(), &stored.manifest, &stored.resolved)?;
        loaded.push(Stored { name, ..stored });
        Ok(())
    };
    let has = |name: &str| files.index.contains_key(name);
    let listed = has("index.json").then(|| oci_index(&files)).transpose()?;
    // Docker 25 writes an index without entries beside the list of its own form.
    let listed = listed.filter(|index| !index.manifests.is_empty() || !has("manifest.json"));
    if let Some(index) = listed {
        for entry in index.manifests {
            let stored = import_entry(store, &files, &entry, None)?;
            let tag = entry_name(&entry).filter(|tag| !tag.is_empty());
            list(stored, tag.and_then(|tag| local_name(path, Some(tag))))?;
        }
        return Ok(loaded);
    }
    for image in docker_images(&files)? {
        let stored = import_docker(store, &files, &image)?;
        let names = image.repo_tags.iter().flatten().filter_map(|tag| tag.parse::<ImageRef>().ok());
        let names: Vec<Option<ImageRef>> = names.map(Some).collect();
        for name in if names.is_empty() { vec![None] } else { names } {
            list(stored.clone(), name)?;
        }
    }
    Ok(loaded)
}

fn read_json<T: for<'de> Deserialize<'de>>(
    files: &dyn Files,
    name: &str,
) -> Result<T, ArchiveError> {
    let path = || files.path().to_owned();
    let bytes = read_bytes(files, name)?;
    serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json {
        path: path(),
        file: name.to_owned(),
        source,
    })
}

fn read_bytes(files: &dyn Files, name: &str) -> Result<Vec<u8>, ArchiveError> {
    let path = || files.path().to_owned();
    let reader = files.open(name).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ArchiveError::NoFile { path: path(), file: name.to_owned() },
        _ => ArchiveError::Read { path: path(), source },
    })?;
    let mut bytes = Vec::new();
    let read = reader.take(LARGEST_MANIFEST).read_to_end(&mut bytes);
    read.map_err(|source| ArchiveError::Read { path: path(), source })?;
    Ok(bytes)
}

fn oci_index(files: &dyn Files) -> Result<Index, ArchiveError> {
    read_json(files, "index.json")
}

fn entry_name(entry: &Descriptor) -> Option<&str> {
    let names = [REF_NAME, "io.containerd.image.name"];
    names.iter().find_map(|key| entry.annotations.get(*key)).map(String::as_str)
}

fn pick(files: &dyn Files, index: &Index, tag: Option<&str>) -> Result<Descriptor, ArchiveError> {
    let path = || files.path().to_owned();
    let names: Vec<&str> = index.manifests.iter().filter_map(entry_name).collect();
    let has = || names.join(", ");
    match (tag, index.manifests.as_slice()) {
        (Some(tag), entries) => {
            let found = entries.iter().find(|entry| entry_name(entry) == Some(tag));
            let missing = || ArchiveError::NoTag { path: path(), tag: tag.to_owned(), has: has() };
            found.cloned().ok_or_else(missing)
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(ArchiveError::NoFile { path: path(), file: "image".into() }),
        (None, _) => Err(ArchiveError::Several { path: path(), has: has() }),
    }
}

pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn import_entry(
    store: &Store,
    files: &dyn Files,
    entry: &Descriptor,
    platform: Option<&Platform>,
) -> Result<Stored, ArchiveError> {
    let bad = |source| ArchiveError::Manifest { path: files.path().to_owned(), source };
    let resolved = entry.digest.clone();
    copy_blob(store, files, entry, &blob_name(&entry.digest))?;
    let mut descriptor = entry.clone();
    let manifest = loop {
        match Document::parse(&store.read_small(&descriptor.digest)?).map_err(bad)? {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) => {
                let chosen = select::choose(&index, platform).map_err(|source| {
                    ArchiveError::Select { path: files.path().to_owned(), source }
                })?;
                copy_blob(store, files, chosen, &blob_name(&chosen.digest))?;
                descriptor = chosen.clone();
            }
        }
    };
    for blob in manifest.blobs() {
        copy_blob(store, files, blob, &blob_name(&blob.digest))?;
    }
    let media_type =
        if manifest.media_type.is_empty() { media::OCI_MANIFEST } else { &manifest.media_type };
    let manifest = Descriptor::new(media_type, descriptor.digest, descriptor.size);
    Ok(Stored { name: None, manifest, resolved })
}

fn copy_blob(
    store: &Store,
    files: &dyn Files,
    blob: &Descriptor,
    name: &str,
) -> Result<(), ArchiveError> {
    let Some(mut ingest) = store.ingest_sound(blob)? else { return Ok(()) };
    ingest.restart()?;
    let path = || files.path().to_owned();
    let mut reader = files.open(name).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ArchiveError::NoFile { path: path(), file: name.to_owned() },
        _ => ArchiveError::Read { path: path(), source },
    })?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader
            .read(&mut buffer)
            .map_err(|source| ArchiveError::Read { path: path(), source })?
        {
            0 => break,
            count => ingest.write(&buffer[..count])?,
        }
    }
    Ok(ingest.finish()?)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker_images(files: &dyn Files) -> Result<Vec<DockerImage>, ArchiveError> {
    read_json(files, "manifest.json")
}

/// Makes an OCI manifest for an image of `docker save`, whose layers are plain tars.
fn import_docker(
    store: &Store,
    files: &dyn Files,
    image: &DockerImage,
) -> Result<Stored, ArchiveError> {
    let config = store.put(media::OCI_CONFIG, &read_bytes(files, &image.config)?)?;
    let mut layers = Vec::new();
    for name in &image.layers {
        let failed = |source| ArchiveError::Read { path: files.path().to_owned(), source };
        let reader = files.open(name).map_err(failed)?;
        let (digest, size) = hash::hash_reader(Algorithm::Sha256, reader).map_err(failed)?;
        let layer = Descriptor::new(media::OCI_LAYER_TAR, digest, size);
        copy_blob(store, files, &layer, name)?;
        layers.push(layer);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: media::OCI_MANIFEST.to_owned(),
        artifact_type: None,
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest is always JSON");
    let manifest = store.put(media::OCI_MANIFEST, &bytes)?;
    Ok(Stored { name: None, resolved: manifest.digest.clone(), manifest })
}
