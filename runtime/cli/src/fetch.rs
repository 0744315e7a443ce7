//! Gets an image: from the store, from a registry, from a file. What `run` and `pull` share.

use std::path::Path;

use clap::{Args, ValueEnum};
use mote_image::manifest::Platform;
use mote_image::{Artifact, Code, Lease, Overrides, Source, Store, Stored, archive};
use mote_registry::{Client, PullError, RegistryError};
use mote_spec::ImageRef;
use tokio::runtime::Builder;

use crate::app::App;
use crate::error::CliError;
use crate::output;
use crate::progress::{self, Show};
use crate::registry::RegistryArgs;

/// Options of what pulls images
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct PullOptions {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Take the image for this platform, such as wasip2/wasm
    #[arg(long, value_name = "OS/ARCH", value_parser = parse_platform)]
    pub(crate) platform: Option<Platform>,
}

/// When to look for an image in its registry
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// Every time
    Always,
    /// If it is not here
    Missing,
    /// Not at all
    Never,
    /// Every time, but go on with what is here if the registry cannot be reached
    Newer,
}

fn parse_platform(text: &str) -> Result<Platform, String> {
    let mut parts = text.splitn(3, '/');
    let part = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(str::to_owned);
    match (part(parts.next()), part(parts.next()), part(parts.next())) {
        (Some(os), Some(architecture), variant) => Ok(Platform { os, architecture, variant }),
        _ => Err("write OS/ARCH, such as wasip2/wasm".to_owned()),
    }
}

/// Runs something asynchronous to its end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    block_in(&mut Builder::new_current_thread(), work)
}

/// The same for something that runs a guest.
pub(crate) fn block_on_guest<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    block_in(mote_engine::look_often(&mut Builder::new_current_thread()), work)
}

fn block_in<T>(events: &mut Builder, work: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = events.enable_all().build();
    let runtime =
        runtime.map_err(|error| CliError::new(format!("cannot start the event loop: {error}")))?;
    let done = runtime.block_on(work);
    // A file operation that never ends, on a pipe that nobody opens, say, must not hold up the end.
    runtime.shutdown_background();
    Ok(done)
}

/// Pulls an image from its registry.
pub(crate) fn pull(
    app: &App,
    store: &Store,
    image: &ImageRef,
    options: &PullOptions,
    show: Show,
) -> Result<Stored, CliError> {
    options.registry.reach.check_authfile()?;
    pull_with(app, store, image, options, show)?.map_err(|error| explained(error, image))
}

/// The error of a pull, with the registry's own name in what to do.
fn explained(error: PullError, image: &ImageRef) -> CliError {
    let refused = matches!(error, PullError::Registry(RegistryError::Unauthorized { .. }));
    let error = CliError::from(error);
    match refused {
        true => error.hint(format!(
            "log in with `mote login {}`, or check that the image exists and is yours to read",
            image.registry()
        )),
        false => error,
    }
}

fn pull_with(
    app: &App,
    store: &Store,
    image: &ImageRef,
    options: &PullOptions,
    show: Show,
) -> Result<Result<Stored, PullError>, CliError> {
    let client = Client::new(options.registry.settings(app)?)?;
    progress::during(show, &image.familiar(), |progress| {
        block_on(mote_registry::pull(store, &client, image, options.platform.as_ref(), progress))
    })
}

/// Finds an image in the store by its name, or by the start of its digest.
pub(crate) fn find(store: &Store, text: &str) -> Result<Stored, CliError> {
    let missing = || {
        CliError::not_found(format!("no image {text} is here"))
            .hint(format!("`mote pull {text}` brings it; `mote images` lists what is here"))
    };
    match store.known(text, 4)?.as_slice() {
        [] => Err(missing()),
        [first, rest @ ..] if rest.iter().all(|other| other.manifest == first.manifest) => {
            Ok(first.clone())
        }
        _ => Err(CliError::new(format!("{text} could be several images; write more of its id"))),
    }
}

/// A program, and what keeps its files from being swept until they are open.
pub(crate) struct Fetched {
    pub(crate) artifact: Artifact,
    pub(crate) lease: Option<Lease>,
}

/// Gets the program that a person named.
pub(crate) fn artifact(
    app: &App,
    text: &str,
    when: PullWhen,
    options: &PullOptions,
    overrides: Overrides,
    show: Show,
) -> Result<Fetched, CliError> {
    let source = match text.strip_prefix("sha256:") {
        // An id, which no reference can be.
        Some(_) => None,
        None => Some(text.parse::<Source>()?),
    };
    if !matches!(source, Some(Source::Registry(_))) {
        options.check_local(text)?;
        when.check_local(text)?;
    }
    if let Some(Source::File(path)) = &source {
        options.check_platform(text)?;
        return Ok(Fetched { artifact: file(path, overrides)?, lease: None });
    }
    let store = app.store()?;
    let lease = store.lease()?;
    let stored = bring(app, &store, (text, source.as_ref()), when, options, show)?;
    let mut artifact = mote_image::open(&store, &lease, &stored, overrides)?;
    if stored.name.is_none() && source.is_some() {
        artifact.name = text.to_owned();
    }
    Ok(Fetched { artifact, lease: Some(lease) })
}

/// Brings an image that a person named to this machine, if it is not here.
pub(crate) fn stored(
    app: &App,
    text: &str,
    when: PullWhen,
    options: &PullOptions,
    show: Show,
) -> Result<Stored, CliError> {
    let source = match text.strip_prefix("sha256:") {
        Some(_) => None,
        None => Some(text.parse::<Source>()?),
    };
    if !matches!(source, Some(Source::Registry(_))) {
        options.check_local(text)?;
        when.check_local(text)?;
    }
    bring(app, &app.store()?, (text, source.as_ref()), when, options, show)
}

fn bring(
    app: &App,
    store: &Store,
    (text, source): (&str, Option<&Source>),
    when: PullWhen,
    options: &PullOptions,
    show: Show,
) -> Result<Stored, CliError> {
    match source {
        None => {
            options.check_platform(text)?;
            find(store, text)
        }
        Some(Source::Registry(image)) => {
            registry_image(app, store, (text, image), when, options, show)
        }
        Some(local) => Ok(import(store, local, options.platform.as_ref())?.0),
    }
}

/// Copies an image from a folder or an archive into the store, and says what it would be called.
pub(crate) fn import(
    store: &Store,
    source: &Source,
    platform: Option<&Platform>,
) -> Result<(Stored, Option<ImageRef>), CliError> {
    let (imported, path) = match source {
        Source::OciDir { path, tag } => {
            (archive::import_oci_dir(store, path, tag.as_deref(), platform)?, path)
        }
        Source::OciArchive(path) => (archive::import_oci_archive(store, path, platform)?, path),
        Source::DockerArchive(path) if platform.is_none() => {
            (archive::import_docker_archive(store, path)?, path)
        }
        Source::DockerArchive(_) => {
            return Err(CliError::new("a docker archive has one platform; leave --platform out"));
        }
        Source::Registry(_) | Source::File(_) => {
            return Err(CliError::new(format!("{source} is neither a layout nor an archive")));
        }
    };
    let name = archive::local_name(Some(path), imported.called.as_deref());
    Ok((imported.stored, name))
}

fn registry_image(
    app: &App,
    store: &Store,
    (text, image): (&str, &ImageRef),
    when: PullWhen,
    options: &PullOptions,
    show: Show,
) -> Result<Stored, CliError> {
    let here = match when {
        PullWhen::Always => None,
        PullWhen::Missing | PullWhen::Never | PullWhen::Newer => {
            let mut known = store.known(text, 4)?.into_iter();
            known.find(|stored| options.is_wanted(store, stored))
        }
    };
    let pull = || pull(app, store, image, options, show);
    match (here, when) {
        (Some(stored), PullWhen::Missing | PullWhen::Never) => Ok(stored),
        (None, PullWhen::Never) => {
            let of = options.platform.as_ref().map(|platform| format!(" for {platform}"));
            let message = format!(
                "image {}{} is not here, and --pull never forbids to look for it",
                image.familiar(),
                of.unwrap_or_default()
            );
            Err(CliError::not_found(message))
        }
        (Some(stored), PullWhen::Newer) => {
            options.registry.reach.check_authfile()?;
            match pull_with(app, store, image, options, show)? {
                Err(PullError::Registry(error @ RegistryError::Transport { .. })) => {
                    output::note(&format!("mote: {error}; going on with the image that is here"));
                    Ok(stored)
                }
                other => Ok(other.map_err(|error| explained(error, image))?),
            }
        }
        (Some(_), PullWhen::Always) | (None, _) => pull(),
    }
}

impl PullOptions {
    /// Whether an image that is here is for the platform that is wanted.
    fn is_wanted(&self, store: &Store, stored: &Stored) -> bool {
        let Some(platform) = &self.platform else { return true };
        mote_image::read(store, &stored.manifest, "").is_ok_and(|(_, config)| {
            // A configuration does not name its variant, so that one that is asked for is looked up.
            config.os == platform.os
                && config.architecture == platform.architecture
                && platform.variant.is_none()
        })
    }

    /// What is named by its content has no other platform.
    fn check_platform(&self, what: &str) -> Result<(), CliError> {
        match &self.platform {
            Some(_) => Err(CliError::new(format!("{what} is one program; leave --platform out"))),
            None => Ok(()),
        }
    }

    /// What comes from no registry has no use for what reaches one.
    pub(crate) fn check_local(&self, what: &str) -> Result<(), CliError> {
        match self.registry.set() {
            Some(flag) => Err(CliError::new(format!("{what} is in no registry; leave {flag} out"))),
            None => Ok(()),
        }
    }
}

impl PullWhen {
    fn check_local(self, what: &str) -> Result<(), CliError> {
        match self {
            PullWhen::Always | PullWhen::Newer => {
                Err(CliError::new(format!("{what} is in no registry; leave --pull out")))
            }
            PullWhen::Missing | PullWhen::Never => Ok(()),
        }
    }
}

/// A plain file: `.wasm` as it is, `.wat` turned into its binary form.
fn file(path: &Path, overrides: Overrides) -> Result<Artifact, CliError> {
    let bytes = std::fs::read(path).map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => CliError::not_found(message),
            _ => CliError::new(message),
        }
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = wasm(bytes, &name)?;
    let entrypoint = overrides.entrypoint.unwrap_or_else(|| vec![name.clone()]);
    Ok(Artifact {
        name,
        code: Code::from_bytes(bytes),
        args: [entrypoint, overrides.args].concat(),
        env: Vec::new(),
        cwd: None,
        export: None,
        annotations: Default::default(),
        rootfs: None,
    })
}

/// Checks that a file is Wasm, in binary form or as text.
pub(crate) fn wasm(bytes: Vec<u8>, name: &str) -> Result<Vec<u8>, CliError> {
    use mote_image::OpenError;
    use mote_image::media::Magic;
    let owned = || name.to_owned();
    match Magic::of(&bytes) {
        Magic::CoreModule | Magic::Component => Ok(bytes),
        Magic::Text => {
            wat::parse_bytes(&bytes).map(std::borrow::Cow::into_owned).map_err(|error| {
                CliError::not_runnable(format!("{name} is not valid WebAssembly text: {error}"))
            })
        }
        Magic::Elf(platform) => Err(OpenError::Native { name: owned(), platform }.into()),
        Magic::Unknown => Err(OpenError::NotWasm { name: owned() }.into()),
    }
}
