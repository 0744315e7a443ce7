//! `containerd-shim-mote-v1`: Wasm containers under containerd.
//!
//! ```text
//! containerd --start--> bootstrap --a process of its own--> serve --ttrpc--> service --Pod--> Task
//!            --delete-> cleanup                                               bundle, rootfs, program
//! ```
//!
//! One process for each pod: its guests run on its threads, which are in the pod's network namespace.

mod bootstrap;
mod bundle;
mod cgroup;
mod cleanup;
mod error;
mod execs;
mod fifo;
mod flags;
mod guest;
mod host_network;
mod image;
mod logger;
mod metrics;
mod native;
mod orphans;
mod overlay;
mod paths;
mod phase;
mod pod;
mod pod_cgroup;
mod presence;
mod program;
mod publisher;
mod rootfs;
mod serve;
mod service;
mod settings;
mod streams;
mod task;
mod terminal;
mod time;
mod wasm;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use mote_engine::{CompileIn, WorkIn};
use tracing::level_filters::LevelFilter;

use error::ShimError;
use flags::{Action, Flags};
use image::Images;
use program::Node;
use settings::NodeFile;

const NAME: &str = "io.containerd.mote.v1";
/// The node's configuration, which `mote` reads as well.
const CONFIG: &str = "/etc/mote/config.toml";

const HELP: &str = "containerd-shim-mote-v1: Wasm containers under containerd. containerd starts it; \
`mote shim install` tells containerd of it.

  containerd-shim-mote-v1 -namespace NS -id ID -address SOCKET start|delete
  containerd-shim-mote-v1 -info | -version

MOTE_CONFIG names the node's configuration (default /etc/mote/config.toml), MOTE_ROOT and MOTE_STATE its folders.
";

fn main() -> ExitCode {
    let done = Flags::read(std::env::args().skip(1)).map_err(ShimError::Invalid).and_then(run);
    match done.and_then(|answer| print(&answer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows what stands here, and nothing may where all is well.
            let _ = writeln!(std::io::stderr(), "containerd-shim-mote-v1: {}", error.text());
            ExitCode::FAILURE
        }
    }
}

fn print(answer: &[u8]) -> Result<(), ShimError> {
    let mut out = std::io::stdout();
    let printed = out.write_all(answer).and_then(|()| out.flush());
    printed.map_err(|source| ShimError::System { what: "answer containerd", source })
}

/// Does what is asked, and returns what is to be printed.
fn run(flags: Flags) -> Result<Vec<u8>, ShimError> {
    let folder = std::env::current_dir()
        .map_err(|source| ShimError::System { what: "find the bundle", source })?;
    match flags.action {
        Action::Start => bootstrap::start(&flags, &folder, &said()?),
        Action::Delete => {
            let bundle = if flags.bundle.is_empty() { &folder } else { Path::new(&flags.bundle) };
            cleanup::delete(bundle, &flags, &runc_state(&flags))
        }
        Action::Info => info(),
        Action::Version => Ok(version().into_bytes()),
        Action::Help => Ok(HELP.as_bytes().to_vec()),
        Action::Guest => guest(),
        Action::Serve => {
            log_to_containerd(&flags, &folder);
            let served = serve::serve(&flags, node(&flags), &events_address(&flags));
            served.inspect_err(|error| tracing::error!(error = error.text(), "it ends"))?;
            Ok(Vec::new())
        }
    }
}

/// Runs one guest in this process, which the process of its pod has started.
fn guest() -> Result<Vec<u8>, ShimError> {
    let failed = |source| ShimError::System { what: "run a guest", source };
    // `ps` and `top` would call it `exe`, as which it was started.
    rustix::thread::set_name(c"mote-guest").map_err(|error| failed(error.into()))?;
    mote_engine::work().map_err(failed)?;
    Ok(Vec::new())
}

/// What containerd says at standard input.
fn said() -> Result<Vec<u8>, ShimError> {
    let mut said = Vec::new();
    let read = std::io::stdin().take(4 << 20).read_to_end(&mut said);
    read.map_err(|source| ShimError::System { what: "read what containerd says", source })?;
    Ok(said)
}

/// A variable of the environment: containerd says there what it has no flag for, and the process of the
/// pod inherits it.
#[allow(clippy::disallowed_methods, reason = "the shim's contract says so")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where events go.
fn events_address(flags: &Flags) -> String {
    variable("TTRPC_ADDRESS").unwrap_or_else(|| format!("{}.ttrpc", flags.address))
}

/// The machine's compiled programs, which `mote` has as well, and `mote` as the compiler.
fn node(flags: &Flags) -> Node {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("mote"));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("mote"));
    let root = variable("MOTE_ROOT").unwrap_or_else(|| "/var/lib/mote".to_owned());
    let images = Images {
        mote: program.clone(),
        address: flags.address.clone(),
        namespace: flags.namespace.clone(),
    };
    Node {
        compiled: PathBuf::from(root).join("compiled"),
        compile_in: CompileIn::Child { program, args: vec!["compile-worker".into()] },
        // The program that runs, whatever has been installed since.
        work_in: WorkIn::Child { program: "/proc/self/exe".into(), args: vec!["guest".into()] },
        config: match variable("MOTE_CONFIG") {
            Some(path) => NodeFile { path: path.into(), is_named: true },
            None => NodeFile { path: CONFIG.into(), is_named: false },
        },
        runc_state: runc_state(flags),
        state: state(),
        images,
    }
}

/// What lasts no longer than the machine runs.
fn state() -> PathBuf {
    variable("MOTE_STATE").unwrap_or_else(|| "/run/mote".to_owned()).into()
}

/// Apart for every containerd and namespace: names are theirs. What is left by a shim that was killed
/// is found here.
fn runc_state(flags: &Flags) -> PathBuf {
    let containerd = mote_image::sha256(flags.address.as_bytes());
    state().join("runc").join(containerd.short()).join(&flags.namespace)
}

fn log_to_containerd(flags: &Flags, bundle: &Path) {
    let Some(log) = bootstrap::log(bundle) else { return };
    let level = if flags.debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(log))
        .init();
}

fn version() -> String {
    format!("containerd-shim-mote-v1 {}\n", env!("CARGO_PKG_VERSION"))
}

/// What containerd learns of the runtime before any container is made.
fn info() -> Result<Vec<u8>, ShimError> {
    let version =
        RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_owned(), ..Default::default() };
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(version),
        ..RuntimeInfo::default()
    };
    info.write_to_bytes().map_err(|source| ShimError::Message { what: "the answer", source })
}
