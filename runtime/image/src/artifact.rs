//! Opens an image of the store: finds the program, checks what it is, and says how it is started.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mote_spec::ImageRef;

use crate::code::{self, Code};
use crate::documents;
use crate::error::OpenError;
use crate::layout::{self, Payload};
use crate::lease::Lease;
use crate::manifest::{Descriptor, Process};
use crate::rootfs;
use crate::store::{Store, Stored};
use crate::tree::{self, Memo, Search};

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

/// What the operator says instead of the image.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub entrypoint: Option<Vec<String>>,
    pub args: Vec<String>,
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
    let (manifest, config) = documents::read(store, &stored.manifest, &name)?;
    let payload = layout::payload(&manifest, &config)
        .map_err(|source| OpenError::Layout { name: name.clone(), source })?;
    let mut annotations = config.config.labels.clone();
    annotations.extend(manifest.annotations.clone());
    let has_entrypoint = overrides.entrypoint.is_some();
    let mut args = arguments(&config.config, overrides);
    let mut artifact = Artifact {
        code: Code::from_bytes(Vec::new()),
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
            artifact.code = code::of_layer(store, &layer, &artifact.name)?;
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
