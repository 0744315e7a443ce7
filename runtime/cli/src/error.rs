//! What the command says when something fails: what, why, and the next step; and its exit code.

use std::error::Error;
use std::fmt;

use mote_daemon::scratch::ScratchError;
use mote_daemon::{DaemonError, ProgramError};
use mote_engine::{EngineError, Fault};
use mote_image::archive::ArchiveError;
use mote_image::{OpenError, SaveError, StoreError};
use mote_lifecycle::{DriveError, LiveError, RecordsError};
use mote_registry::{CredentialError, PullError, RegistryError};
use mote_spec::{AnnotationError, GrantError, PolicyError, ReferenceError};

/// Mote failed before the guest started.
const FAILED: u8 = 125;
/// What was named cannot be run: not Wasm, an import or a grant is missing.
const NOT_RUNNABLE: u8 = 126;
/// What was named is not there.
const NOT_FOUND: u8 = 127;

/// An error with the exit code that it leads to, and what to do about it.
#[derive(Debug)]
pub(crate) struct CliError {
    source: Box<dyn Error + Send + Sync>,
    code: u8,
    hint: Option<String>,
}

impl CliError {
    /// An error of the command's own.
    pub(crate) fn new(message: impl Into<String>) -> CliError {
        CliError { source: message.into().into(), code: FAILED, hint: None }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> CliError {
        CliError { code: NOT_FOUND, ..CliError::new(message) }
    }

    pub(crate) fn not_runnable(message: impl Into<String>) -> CliError {
        CliError { code: NOT_RUNNABLE, ..CliError::new(message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it says that what was named is not here.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == NOT_FOUND
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    fn of(source: impl Error + Send + Sync + 'static, code: u8, hint: Option<&str>) -> CliError {
        CliError { source: Box::new(source), code, hint: hint.map(str::to_owned) }
    }
}

impl fmt::Display for CliError {
    /// The chain of causes on one line, and the hint below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut said = self.source.to_string();
        let mut cause = self.source.source();
        while let Some(next) = cause {
            let text = next.to_string();
            // Some libraries repeat their cause in their own text.
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = next.source();
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<RegistryError> for CliError {
    fn from(error: RegistryError) -> CliError {
        let (code, hint) = registry_advice(&error);
        CliError::of(error, code, hint)
    }
}

fn registry_advice(error: &RegistryError) -> (u8, Option<&'static str>) {
    match error {
        RegistryError::NotFound { .. } => {
            (NOT_FOUND, Some("check the name and the tag; `mote images` lists what is here"))
        }
        RegistryError::Unauthorized { .. } => {
            (FAILED, Some("check the user name and the password"))
        }
        RegistryError::RateLimited { .. } => {
            (FAILED, Some("wait a while, or log in for a higher limit"))
        }
        RegistryError::Transport { source, .. } => (FAILED, Some(transport_advice(source))),
        RegistryError::Realm { .. } => (
            FAILED,
            Some("no credential was sent; if the registry is yours, mend its token address"),
        ),
        _ => (FAILED, None),
    }
}

fn transport_advice(error: &dyn Error) -> &'static str {
    let mut chain = Vec::new();
    let mut cause = Some(error);
    while let Some(next) = cause {
        chain.push(next.to_string().to_lowercase());
        cause = next.source();
    }
    let says =
        |words: &[&str]| chain.iter().any(|text| words.iter().any(|word| text.contains(word)));
    if says(&["dns error", "lookup address"]) {
        "check the registry's name, and whether this machine can look names up"
    } else if says(&["certificate", "tls", "corrupt message", "invalidcontenttype"]) {
        "a registry with a certificate of its own needs `authorities` in the configuration; one without TLS needs --tls-verify=false"
    } else {
        "check the address, the network, and whether the registry runs"
    }
}

impl From<PullError> for CliError {
    fn from(error: PullError) -> CliError {
        let (code, hint) = match &error {
            PullError::Registry(inner) => registry_advice(inner),
            PullError::Store(inner) => (FAILED, store_advice(inner)),
            PullError::Select { .. } | PullError::Layout { .. } => (NOT_RUNNABLE, None),
            PullError::NoSpace { .. } => {
                (FAILED, Some("`mote rmi` makes room; `mote system df` shows what takes it"))
            }
            PullError::Manifest { .. }
            | PullError::TimedOut { .. }
            | PullError::Config { .. }
            | PullError::NestedIndex { .. } => (FAILED, None),
        };
        CliError::of(error, code, hint)
    }
}

fn store_advice(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Missing(_) | StoreError::Damaged(_) | StoreError::Index { .. } => {
            Some("`mote system check --repair` mends the store; then pull the image again")
        }
        StoreError::Disk { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Some("run as root, or keep your images elsewhere with --root DIR")
        }
        _ => None,
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> CliError {
        let hint = store_advice(&error);
        CliError::of(error, FAILED, hint)
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> CliError {
        let (code, hint) = match &error {
            OpenError::Store(inner) => (FAILED, store_advice(inner)),
            OpenError::Native { .. } => (
                NOT_RUNNABLE,
                Some(
                    "build the program for wasm32-wasip1 or wasm32-wasip2, or run this image with podman or docker",
                ),
            ),
            OpenError::Text { .. } => {
                (NOT_RUNNABLE, Some("a .wat file runs directly: `mote run ./app.wat`"))
            }
            OpenError::Layout { .. } | OpenError::NotWasm { .. } | OpenError::Undecided { .. } => {
                (NOT_RUNNABLE, None)
            }
            OpenError::NoProgram { .. } => {
                (NOT_FOUND, Some("name the program's file in the image with --entrypoint"))
            }
            OpenError::Unpack(_)
            | OpenError::Manifest { .. }
            | OpenError::Config { .. }
            | OpenError::Read { .. } => (FAILED, None),
            OpenError::TooLarge { .. } => (NOT_RUNNABLE, None),
        };
        CliError::of(error, code, hint)
    }
}

impl From<DaemonError> for CliError {
    fn from(error: DaemonError) -> CliError {
        let code = match &error {
            DaemonError::NoContainer(_) | DaemonError::NoImage(_) | DaemonError::Nothing { .. } => {
                NOT_FOUND
            }
            DaemonError::BadRequest(_)
            | DaemonError::Conflict(_)
            | DaemonError::Unsupported(_)
            | DaemonError::Unavailable(_)
            | DaemonError::Forbidden(_)
            | DaemonError::NotModified(_)
            | DaemonError::Failed(_) => FAILED,
        };
        CliError::of(error, code, None)
    }
}

impl From<ProgramError> for CliError {
    fn from(error: ProgramError) -> CliError {
        match error {
            ProgramError::Store(error) => error.into(),
            ProgramError::Open(error) => error.into(),
            ProgramError::Engine(error) => error.into(),
            error @ ProgramError::Tree { .. } => CliError::of(error, FAILED, None),
        }
    }
}

impl From<ScratchError> for CliError {
    fn from(error: ScratchError) -> CliError {
        CliError::of(error, FAILED, Some("make room on the disk, or keep it elsewhere with --root"))
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> CliError {
        let (code, hint) = match error.fault() {
            Fault::Program => (NOT_RUNNABLE, None),
            Fault::Import => (
                NOT_RUNNABLE,
                Some(
                    "mote provides WASI preview 1, 0.2 and 0.3 with wasi:http; the program was built for another host",
                ),
            ),
            Fault::Sockets => (
                NOT_RUNNABLE,
                Some(
                    "leave the network flags out, or build the program as a component (wasm32-wasip2)",
                ),
            ),
            Fault::Memory => (NOT_RUNNABLE, Some("give it more with --memory")),
            Fault::Missing => (NOT_FOUND, None),
            Fault::Directory => (
                FAILED,
                Some(
                    "a volume is written HOST_DIR:GUEST_DIR, and HOST_DIR has to exist; a named one is the daemon's, with -d",
                ),
            ),
            Fault::WorkingFolder => {
                (FAILED, Some("grant it with -v or --tmpfs, or name another with -w"))
            }
            Fault::Port => (FAILED, Some("choose another host port or address with -p")),
            Fault::Setup => (FAILED, Some("try the small profile: --profile micro")),
            Fault::Layer => (
                FAILED,
                Some(
                    "`mote security --isolation process` tells what each layer needs; --isolation process runs without",
                ),
            ),
            Fault::Host => (FAILED, None),
        };
        CliError::of(error, code, hint)
    }
}

impl From<PolicyError> for CliError {
    fn from(error: PolicyError) -> CliError {
        let (code, hint) = match &error {
            PolicyError::NotGranted { .. } => (NOT_RUNNABLE, None),
            PolicyError::OverCeiling(_)
            | PolicyError::VolumeOutside { .. }
            | PolicyError::NetworkOverCeiling
            | PolicyError::IsolationBelow(_) => (
                FAILED,
                Some(
                    "the ceiling is in the configuration: /etc/mote/config.toml, ~/.config/mote/config.toml, or --config FILE",
                ),
            ),
            PolicyError::SamePlace(_)
            | PolicyError::NeedsProcess(_)
            | PolicyError::CapabilityAdded(_) => (FAILED, None),
        };
        CliError::of(error, code, hint)
    }
}

impl From<ArchiveError> for CliError {
    fn from(error: ArchiveError) -> CliError {
        let code = match &error {
            ArchiveError::NoFile { .. } | ArchiveError::NoTag { .. } => NOT_FOUND,
            ArchiveError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                NOT_FOUND
            }
            _ => FAILED,
        };
        CliError::of(error, code, None)
    }
}

impl From<SaveError> for CliError {
    fn from(error: SaveError) -> CliError {
        let hint = match &error {
            SaveError::Store(inner) => store_advice(inner),
            SaveError::Write { .. } => None,
        };
        CliError::of(error, FAILED, hint)
    }
}

impl From<LiveError> for CliError {
    fn from(error: LiveError) -> CliError {
        let (code, hint) = match &error {
            LiveError::None(_) => (NOT_FOUND, Some("`mote ps` lists what runs")),
            LiveError::Silent { .. } => (
                FAILED,
                Some(
                    "it may have ended, or be held up in a file operation; `mote ps` lists what runs",
                ),
            ),
            LiveError::Folder { .. } | LiveError::Several(_) | LiveError::Answer { .. } => {
                (FAILED, None)
            }
        };
        CliError::of(error, code, hint)
    }
}

impl From<RecordsError> for CliError {
    fn from(error: RecordsError) -> CliError {
        CliError::of(error, FAILED, None)
    }
}

impl From<DriveError> for CliError {
    fn from(error: DriveError) -> CliError {
        CliError::of(error, FAILED, None)
    }
}

impl From<CredentialError> for CliError {
    fn from(error: CredentialError) -> CliError {
        CliError::of(error, FAILED, None)
    }
}

impl From<AnnotationError> for CliError {
    fn from(error: AnnotationError) -> CliError {
        CliError::of(error, NOT_RUNNABLE, None)
    }
}

impl From<ReferenceError> for CliError {
    fn from(error: ReferenceError) -> CliError {
        CliError::of(error, FAILED, None)
    }
}

impl From<GrantError> for CliError {
    fn from(error: GrantError) -> CliError {
        CliError::of(error, FAILED, None)
    }
}
