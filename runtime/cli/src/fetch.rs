//! Gets an image: from the store, from a registry, from a file. What `run` and `pull` share.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mote_image::manifest::Platform;
use mote_image::registry::{Client, Credential, Credentials, Proxy, Settings, TlsVerify};
use mote_image::{Artifact, Code, Overrides, Source, Store, Stored, archive};
use mote_spec::ImageRef;

use crate::app::App;
use crate::error::CliError;
use crate::progress::{self, Show};

/// Options of what contacts a registry
#[derive(Args, Debug, Clone)]
pub(crate) struct RegistryArgs {
    /// Check certificates; `false` also allows plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: bool,
    /// Credential to use, as USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// File of credentials, in the form of docker's config.json
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

/// Options of what pulls images
#[derive(Args, Debug, Clone)]
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

impl RegistryArgs {
    /// How registries are reached: these options, the configuration, the environment.
    pub(crate) fn settings(&self, app: &App) -> Result<Settings, CliError> {
        let environment = &app.environment;
        let explicit = self.creds.as_deref().map(|text| match text.split_once(':') {
            Some((user, password)) => {
                Ok(Credential::Password { user: user.to_owned(), password: password.to_owned() })
            }
            None => Err(CliError::new("--creds is written USER:PASSWORD")),
        });
        Ok(Settings {
            verify: if self.tls_verify { TlsVerify::Always } else { TlsVerify::Never },
            plain_http: app.config.registries.plain_http.clone(),
            mirrors: app.config.registries.mirrors.clone(),
            authorities: app.config.registries.authorities.clone(),
            credentials: Credentials {
                explicit: explicit.transpose()?,
                files: self.auth_files(app),
            },
            proxy: Proxy {
                http: environment.http_proxy.clone(),
                https: environment.https_proxy.clone(),
                no_proxy: environment.no_proxy.clone(),
            },
            stall: app
                .config
                .registries
                .stall
                .map_or(Settings::default().stall, |stall| stall.duration()),
        })
    }

    /// The files to look for credentials in: the one that was named, or mote's, podman's, docker's.
    pub(crate) fn auth_files(&self, app: &App) -> Vec<PathBuf> {
        let environment = &app.environment;
        if let Some(file) = self.authfile.as_ref().or(environment.auth_file.as_ref()) {
            return vec![file.clone()];
        }
        let home = environment.home.clone().unwrap_or_default();
        let config = environment.config_home.clone().unwrap_or_else(|| home.join(".config"));
        let docker = environment.docker_config.clone().unwrap_or_else(|| home.join(".docker"));
        let podman =
            environment.runtime_dir.as_ref().map(|folder| folder.join("containers/auth.json"));
        [
            Some(config.join("mote/auth.json")),
            podman,
            Some(config.join("containers/auth.json")),
            Some(docker.join("config.json")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Runs something asynchronous to its end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| CliError::new(format!("cannot start the event loop: {error}")))?;
    Ok(runtime.block_on(work))
}

/// Pulls an image from its registry.
pub(crate) fn pull(
    app: &App,
    store: &Store,
    image: &ImageRef,
    options: &PullOptions,
    show: Show,
) -> Result<Stored, CliError> {
    let client = Client::new(options.registry.settings(app)?)?;
    let _lease = store.lease()?;
    let stored = progress::during(show, &image.familiar(), |progress| {
        block_on(mote_image::pull(store, &client, image, options.platform.as_ref(), progress))
    })??;
    Ok(stored)
}

/// Finds an image in the store by its name, or by the start of its digest.
pub(crate) fn find(store: &Store, text: &str) -> Result<Stored, CliError> {
    if let Ok(image) = text.parse::<ImageRef>()
        && let Some(stored) = store.find(&image)?
    {
        return Ok(stored);
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = hex.len() >= 4 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found: Vec<Stored> = match is_id {
        true => store
            .images()?
            .into_iter()
            .filter(|image| image.manifest.digest.hex().starts_with(hex))
            .collect(),
        false => Vec::new(),
    };
    found.dedup_by(|a, b| a.manifest.digest == b.manifest.digest);
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(CliError::not_found(format!("no image {text} is here"))
            .hint(format!("`mote pull {text}` brings it; `mote images` lists what is here"))),
        _ => Err(CliError::new(format!("{text} could be several images; write more of its id"))),
    }
}

/// Gets the program that a person named.
pub(crate) fn artifact(
    app: &App,
    source: &Source,
    when: PullWhen,
    options: &PullOptions,
    overrides: Overrides,
    show: Show,
) -> Result<Artifact, CliError> {
    if let Source::File(path) = source {
        return file(path, overrides);
    }
    let store = app.store()?;
    let _lease = store.lease()?;
    let stored = match source {
        Source::Registry(image) => registry_image(app, &store, image, when, options, show)?,
        Source::OciDir { path, tag } => archive::import_oci_dir(&store, path, tag.as_deref())?,
        Source::OciArchive(path) => archive::import_oci_archive(&store, path)?,
        Source::DockerArchive(path) => archive::import_docker_archive(&store, path)?,
        Source::File(_) => unreachable!("files were dealt with above"),
    };
    let mut artifact = mote_image::open(&store, &stored, overrides)?;
    if stored.name.is_none() {
        artifact.name = source.to_string();
    }
    Ok(artifact)
}

fn registry_image(
    app: &App,
    store: &Store,
    image: &ImageRef,
    when: PullWhen,
    options: &PullOptions,
    show: Show,
) -> Result<Stored, CliError> {
    let here = match when {
        PullWhen::Always => None,
        PullWhen::Missing | PullWhen::Never | PullWhen::Newer => store.find(image)?,
    };
    match (here, when) {
        (Some(stored), PullWhen::Missing | PullWhen::Never) => Ok(stored),
        (None, PullWhen::Never) => {
            let message = format!(
                "image {} is not here, and --pull never forbids to look for it",
                image.familiar()
            );
            Err(CliError::not_found(message))
        }
        (Some(stored), _) => Ok(pull(app, store, image, options, show).unwrap_or(stored)),
        (None, _) => pull(app, store, image, options, show),
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
                CliError::new(format!("{name} is not valid WebAssembly text: {error}"))
            })
        }
        Magic::Elf(platform) => Err(OpenError::Native { name: owned(), platform }.into()),
        Magic::Unknown => Err(OpenError::NotWasm { name: owned() }.into()),
    }
}
