//! Opens an image of the store: finds the program, checks what it is, and says how it is started.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mote_spec::{Digest, ImageRef};

use crate::blob;
use crate::layout::{self, LayoutError, Payload};
use crate::manifest::{Descriptor, ImageConfig, Manifest, ManifestError, Process};
use crate::media::Magic;
use crate::rootfs::{self, UnpackError};
use crate::store::{Store, StoreError, Stored};
use crate::sweep::Lease;
use crate::tree::{self, Memo, Search};

/// The largest program that is read.
const LARGEST_MODULE: u64 = 512 << 20;

/// A program with all that its image says about it: the seam between images and engine.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What the program is called in messages: its image's name, or its file's.
    pub name: String,
    pub code: Code,
    /// The program's arguments, its own name first.
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: Option<String>,
    /// The function to call, where the image names another than the usual one.
    pub export: Option<String>,
    /// Annotations of the manifest and labels of the configuration.
    pub annotations: BTreeMap<String, String>,
    /// The image's own files, unpacked.
    pub rootfs: Option<Rootfs>,
}

/// An unpacked root file system, and where in it the program is.
#[derive(Debug, Clone)]
pub struct Rootfs {
    pub tree: PathBuf,
    pub program: PathBuf,
}

/// A Wasm binary that may not have been read yet; its digest names what it must be.
#[derive(Debug, Clone)]
pub struct Code {
    digest: Digest,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    Memory(Vec<u8>),
}

/// What the operator says instead of the image.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub entrypoint: Option<Vec<String>>,
    pub args: Vec<String>,
}

/// Why an image cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("the manifest of {name} cannot be read")]
    Manifest { name: String, source: ManifestError },
    #[error("the configuration of {name} cannot be read")]
    Config { name: String, source: serde_json::Error },
    #[error("{name} cannot run here")]
    Layout { name: String, source: LayoutError },
    #[error("{name} holds a native program for {platform}, and mote runs Wasm")]
    Native { name: String, platform: &'static str },
    #[error("{name} holds WebAssembly text; an image has to hold it in binary form")]
    Text { name: String },
    #[error("{name} is not Wasm: its first bytes are those of something else")]
    NotWasm { name: String },
    #[error("{name} has no file `{program}` to run")]
    NoProgram { name: String, program: String },
    #[error(
        "{name} does not say what to run, and has {found} .wasm files; name one with --entrypoint"
    )]
    Undecided { name: String, found: usize },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the program {path} has more than {most} bytes")]
    TooLarge { path: PathBuf, most: u64 },
}

impl Code {
    /// Wraps bytes that are in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Code {
        Code { digest: blob::sha256(&bytes), place: Place::Memory(bytes) }
    }

    /// A file that is known to hash to a digest.
    pub(crate) fn of_file(digest: Digest, path: PathBuf) -> Code {
        Code { digest, place: Place::File(path) }
    }

    /// What the binary hashes to.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads the binary, and verifies it.
    pub fn read(&self) -> Result<Vec<u8>, OpenError> {
        let path = match &self.place {
            Place::Memory(bytes) => return Ok(bytes.clone()),
            Place::File(path) => path,
        };
        let failed = |source| OpenError::Read { path: path.clone(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(LARGEST_MODULE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST_MODULE {
            return Err(OpenError::TooLarge { path: path.clone(), most: LARGEST_MODULE });
        }
        match blob::hash(self.digest.algorithm(), &bytes) == self.digest {
            true => Ok(bytes),
            false => Err(StoreError::Damaged(self.digest.clone()).into()),
        }
    }
}

/// Opens a stored image. What it leads to is there for as long as the lease is held.
///
/// # Errors
/// Fails if a blob is missing or damaged, or if the image holds no Wasm.
pub fn open(
    store: &Store,
    _lease: &Lease,
    stored: &Stored,
    overrides: Overrides,
) -> Result<Artifact, OpenError> {
    let name =
        stored.name.as_ref().map_or_else(|| stored.manifest.digest.to_string(), ImageRef::familiar);
    let (manifest, config) = read(store, &stored.manifest, &name)?;
    let payload = layout::payload(&manifest, &config)
        .map_err(|source| OpenError::Layout { name: name.clone(), source })?;
    let mut annotations = config.config.labels.clone();
    annotations.extend(manifest.annotations.clone());
    let has_entrypoint = overrides.entrypoint.is_some();
    let mut args = arguments(&config.config, overrides);
    let mut artifact = Artifact {
        code: Code { digest: stored.manifest.digest.clone(), place: Place::Memory(Vec::new()) },
        args: Vec::new(),
        env: config.config.env.clone(),
        cwd: Some(config.config.working_dir.clone()).filter(|folder| !folder.is_empty()),
        export: None,
        annotations,
        rootfs: None,
        name,
    };
    // Without an entrypoint a layer's first argument is the operator's own, and data.
    let names_program = matches!(payload, Payload::Rootfs(_))
        || has_entrypoint
        || !config.config.entrypoint.is_empty();
    if let Some(first) = args.first_mut().filter(|_| names_program)
        && let Some((path, export)) = first.clone().split_once('#')
    {
        *first = path.to_owned();
        artifact.export = Some(export.to_owned()).filter(|export| !export.is_empty());
    }
    match payload {
        Payload::Layer(layer) => {
            let default = default_name(stored, &layer);
            if has_entrypoint {
                check_program(&artifact.name, args.first(), &default, &config.config)?;
            }
            artifact.code = layer_code(store, &layer, &artifact.name)?;
            artifact.args = if config.config.entrypoint.is_empty() && !has_entrypoint {
                prefixed(default, args)
            } else {
                args
            };
        }
        Payload::Rootfs(layers) => {
            let tree = rootfs::unpack(store, &layers)?;
            let search = Search {
                name: &artifact.name,
                program: args.first().map(String::as_str),
                env: &artifact.env,
                cwd: artifact.cwd.as_deref(),
            };
            let program = search.find(&tree)?;
            artifact.code = tree::code(&tree, &program, &artifact.name, Memo::BesideTree)?;
            artifact.args = match args.is_empty() {
                true => vec![format!("/{}", program.display())],
                false => args,
            };
            artifact.rootfs = Some(Rootfs { tree, program });
        }
    }
    Ok(artifact)
}

/// Reads and parses an image's manifest and configuration.
pub fn read(
    store: &Store,
    manifest: &Descriptor,
    name: &str,
) -> Result<(Manifest, ImageConfig), OpenError> {
    let bytes = store.read_small(&manifest.digest)?;
    let manifest = Manifest::parse(&bytes)
        .map_err(|source| OpenError::Manifest { name: name.to_owned(), source })?;
    let bytes = store.read_small(&manifest.config.digest)?;
    let config = ImageConfig::parse(&bytes)
        .map_err(|source| OpenError::Config { name: name.to_owned(), source })?;
    Ok((manifest, config))
}

/// Docker's rule: the entrypoint, then what the operator typed, else the image's command.
fn arguments(process: &Process, overrides: Overrides) -> Vec<String> {
    let Overrides { entrypoint, args } = overrides;
    let replaced = entrypoint.is_some();
    let entrypoint = entrypoint.unwrap_or_else(|| process.entrypoint.clone());
    match args.is_empty() && !replaced {
        true => [entrypoint, process.cmd.clone()].concat(),
        false => [entrypoint, args].concat(),
    }
}

/// An image of one program has no other: its own name and its image's word for it stand for it.
fn check_program(
    name: &str,
    wanted: Option<&String>,
    default: &str,
    process: &Process,
) -> Result<(), OpenError> {
    let wanted = wanted.map_or("", String::as_str);
    let file = wanted.rsplit('/').next().unwrap_or(wanted);
    let own = process.entrypoint.first().and_then(|first| first.split('#').next());
    match wanted.is_empty() || file == default || own == Some(wanted) {
        true => Ok(()),
        false => Err(OpenError::NoProgram { name: name.to_owned(), program: wanted.to_owned() }),
    }
}

fn prefixed(name: String, args: Vec<String>) -> Vec<String> {
    std::iter::once(name).chain(args).collect()
}

/// What a program without a name of its own is called: its file's title, or its repository's end.
fn default_name(stored: &Stored, layer: &Descriptor) -> String {
    let repository = stored.name.as_ref().map(|name| name.repository());
    let title = layer.title().or(repository).unwrap_or("main.wasm");
    title.rsplit('/').next().unwrap_or(title).to_owned()
}

fn layer_code(store: &Store, layer: &Descriptor, name: &str) -> Result<Code, OpenError> {
    if !store.has(layer) {
        return Err(StoreError::Missing(layer.digest.clone()).into());
    }
    let path = store.blob_path(&layer.digest);
    let file =
        File::open(&path).map_err(|source| OpenError::Read { path: path.clone(), source })?;
    check_magic(file, &path, name)?;
    Ok(Code { digest: layer.digest.clone(), place: Place::File(path) })
}

/// Looks at the program's first bytes; what the image calls it does not count.
pub(crate) fn check_magic(file: File, path: &Path, name: &str) -> Result<(), OpenError> {
    let mut first = Vec::new();
    let failed = |source| OpenError::Read { path: path.to_owned(), source };
    file.take(64).read_to_end(&mut first).map_err(failed)?;
    let name = || name.to_owned();
    match Magic::of(&first) {
        Magic::CoreModule | Magic::Component => Ok(()),
        Magic::Elf(platform) => Err(OpenError::Native { name: name(), platform }),
        Magic::Text => Err(OpenError::Text { name: name() }),
        Magic::Unknown => Err(OpenError::NotWasm { name: name() }),
    }
}
