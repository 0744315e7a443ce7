//! From a program and a policy to its end: compile or find code, make scratch space, run, explain.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use mote_engine::{
    Blocking, CodeKey, Control, Counting, Engine, Gauge, Launch, Module, Outcome, Process, Refusal,
    RootFiles, Stdio, Trusted,
};
use mote_image::Artifact;
use mote_spec::{ContainerName, ExitStatus, Limit, Policy, Root};

use crate::app::App;
use crate::ends::{DeadlineGuard, Interrupts};
use crate::error::CliError;
use crate::fetch::block_on;
use crate::output;
use crate::progress::{self, Show};
use crate::scratch::Scratch;

/// Finds the compiled code of a program, or compiles it.
pub(crate) fn compiled(
    app: &App,
    artifact: &Artifact,
    counting: Counting,
    show: Show,
) -> Result<Trusted, CliError> {
    let cache = app.cache()?;
    let profile = app.profile();
    let key = CodeKey::new(artifact.code.digest(), profile, counting);
    if let Some(code) = cache.get(&key) {
        return Ok(code);
    }
    let wasm = artifact.code.read()?;
    let what = format!("compiling {}", artifact.name);
    let place = app.compile_in();
    let compile = || mote_engine::compile(&cache, &key, &wasm, (profile, counting), &place);
    Ok(progress::spin(show, &what, compile)?)
}

/// How a policy's instructions are counted.
pub(crate) fn counting(policy: &Policy) -> Counting {
    match policy.limits().fuel {
        Limit::AtMost(_) => Counting::Fuel,
        Limit::Unlimited => Counting::Off,
    }
}

/// A compiled program in the engine that its policy asks for, with its files held.
pub(crate) struct Ready {
    engine: Engine,
    module: Module,
    /// The tree must not be swept while the guest reads it.
    _tree: Option<File>,
}

/// Compiles a program if that was not done before, and loads it. After that its image may go.
pub(crate) fn prepare(
    app: &App,
    artifact: &Artifact,
    policy: &Policy,
    show: Show,
) -> Result<Ready, CliError> {
    let counting = counting(policy);
    let code = compiled(app, artifact, counting, show)?;
    let engine = Engine::new(app.profile(), counting, policy.limits().bounds.stack)?;
    let module = Module::load(&engine, &code)?;
    let tree = artifact.rootfs.as_ref().map(|root| hold(&root.tree)).transpose()?;
    Ok(Ready { engine, module, _tree: tree })
}

/// Runs a program under a policy, and returns how it ended.
pub(crate) fn run(
    app: &App,
    ready: &Ready,
    artifact: &Artifact,
    policy: &Policy,
    process: Process,
    stdio: Stdio,
) -> Result<(Outcome, Arc<Gauge>), CliError> {
    let root = artifact.rootfs.as_ref().map(|root| RootFiles {
        tree: root.tree.clone(),
        program: root.program.clone(),
        size: policy.limits().storage.bound().unwrap_or(mote_spec::Scratch::DEFAULT_SIZE),
    });
    let copies_root = root.is_some() && policy.grants().root == Root::Copy;
    let scratch = match copies_root || !policy.grants().scratch.is_empty() {
        true => Some(Scratch::make(app)?),
        false => None,
    };
    let gauge = Arc::new(Gauge::default());
    let launch = Launch {
        policy,
        process,
        stdio,
        root,
        scratch: scratch.as_ref().map(|scratch| scratch.path().to_owned()),
        gauge: Arc::clone(&gauge),
        control: Arc::new(Control::new(policy.limits())),
    };
    // Without anything to clear away, a signal may end the process as it does any other.
    let interrupts = scratch.as_ref().map(|scratch| Interrupts::listen(scratch.path()));
    let interrupts = interrupts.transpose()?;
    let guest = mote_engine::run(&ready.engine, &ready.module, launch);
    let guard = DeadlineGuard::arm(&artifact.name, policy);
    let ended = match interrupts {
        Some(interrupts) => block_on(interrupts.or_end_of(guest))?,
        None => Ok(block_on(guest)?),
    };
    drop(guard);
    drop(scratch);
    match ended {
        Ok(outcome) => Ok((outcome?, gauge)),
        Err(signal) => Err(signal.carry_out()),
    }
}

fn hold(tree: &std::path::Path) -> Result<File, CliError> {
    let held = File::open(tree).and_then(|folder| folder.lock_shared().map(|()| folder));
    held.map_err(|error| CliError::new(format!("cannot use {}: {error}", tree.display())))
}

/// Whether the guest may block this process: nobody can be hurt but itself, and no deadline waits.
pub(crate) fn blocking(policy: &Policy) -> Blocking {
    match policy.limits().timeout {
        Limit::AtMost(_) => Blocking::Never,
        Limit::Unlimited => Blocking::Allowed,
    }
}

/// Holds a name for as long as its container runs.
pub(crate) fn take_name(app: &App, name: &ContainerName) -> Result<File, CliError> {
    let folder = state_folder(app, "names")?;
    let failed =
        |error: std::io::Error| CliError::new(format!("cannot take the name {name}: {error}"));
    let path = folder.join(name.as_str());
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(CliError::new(format!("the name {name} is in use by a running container"))
            .hint("choose another --name")),
    }
}

/// Makes a folder of the volatile state, and refuses one that is somebody else's: it may be below
/// `/tmp`, where everybody can be first.
fn state_folder(app: &App, name: &str) -> Result<PathBuf, CliError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let path = app.state.join(name);
    let failed = |why: String| CliError::new(format!("cannot use {}: {why}", app.state.display()));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| failed(error.to_string()))?;
    let found = fs::symlink_metadata(&app.state).map_err(|error| failed(error.to_string()))?;
    let ours = found.uid() == rustix::process::geteuid().as_raw() && found.is_dir();
    match ours && found.mode() & 0o022 == 0 {
        true => Ok(path),
        false => Err(failed("it is not a folder that only this user may write to".to_owned())
            .hint("name another place with --state DIR")),
    }
}

/// Says what a person needs to know: what the guest was refused, and an end that was not its own.
pub(crate) fn explain(name: &str, outcome: &Outcome, policy: &Policy) {
    let limits = policy.limits();
    for Refusal { what, flag } in &outcome.denied {
        output::note(&format!("{name} was refused {what}; allow it with {flag}"));
    }
    let text = match outcome.status {
        ExitStatus::Exited(_) => return,
        ExitStatus::OutOfFuel => format!("{name} ran out of fuel (limit {})", limits.fuel),
        ExitStatus::TimedOut => format!("{name} timed out (limit {})", limits.timeout),
        ExitStatus::OutOfMemory => {
            let how = outcome.detail.as_deref().map(|how| format!("\nit ended with: {how}"));
            format!(
                "{name} ran out of memory (limit {}); give it more with --memory{}",
                limits.memory,
                how.unwrap_or_default()
            )
        }
        ExitStatus::Trapped => {
            format!(
                "{name} trapped: {}",
                outcome.detail.as_deref().unwrap_or("for an unknown reason")
            )
        }
        ExitStatus::Stopped | ExitStatus::Killed | ExitStatus::Lost | ExitStatus::NotStarted => {
            format!("{name} {}", outcome.status)
        }
    };
    output::note(&text);
}
