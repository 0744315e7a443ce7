//! From a program and a policy to its end: compile or find code, make scratch space, run, explain.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mote_engine::{
    Blocking, CodeKey, Counting, Engine, Gauge, Launch, Module, Outcome, Process, RootFiles, Stdio,
    Trusted,
};
use mote_image::Artifact;
use mote_spec::{ContainerName, ExitStatus, Limit, Policy, Root};

use crate::app::App;
use crate::error::CliError;
use crate::output;
use crate::progress::{self, Show};

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
        scratch: scratch.as_ref().map(|scratch| scratch.path.clone()),
        gauge: Arc::clone(&gauge),
    };
    let ended = {
        let _guard = DeadlineGuard::arm(&artifact.name, policy);
        crate::fetch::block_on(mote_engine::run(&ready.engine, &ready.module, launch))
    };
    let outcome = ended??;
    drop(scratch);
    Ok((outcome, gauge))
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

/// Where containers write: on the disk with the images, and not in the volatile state, which is
/// memory on most machines.
fn scratch_folder(app: &App) -> Result<PathBuf, CliError> {
    use std::os::unix::fs::DirBuilderExt;
    let path = app.root.join("scratch");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| CliError::new(format!("cannot make {}: {error}", path.display())))?;
    Ok(path)
}

/// A folder for what a container writes, locked while it runs and removed after it.
struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    fn make(app: &App) -> Result<Scratch, CliError> {
        let all = scratch_folder(app)?;
        let failed = |error| {
            CliError::new(format!("cannot make scratch space in {}: {error}", all.display()))
        };
        // Nobody removes what looks abandoned while somebody is between making and locking.
        let gate = File::open(&all).map_err(failed)?;
        if gate.try_lock().is_ok() {
            remove_abandoned(&all);
        }
        gate.lock_shared().map_err(failed)?;
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed(error.into()))?;
        let path = all.join(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        fs::create_dir(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        lock.lock_shared().map_err(failed)?;
        Ok(Scratch { path, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is removed by the next container.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what containers left that were killed: their locks are free.
fn remove_abandoned(all: &std::path::Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
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

/// Says what a person needs to know: what the guest was refused, and an end that was not its own.
pub(crate) fn explain(name: &str, outcome: &Outcome, policy: &Policy) {
    let limits = policy.limits();
    for flag in &outcome.denied {
        output::note(&format!("{name} was refused what {flag} would allow"));
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
        ExitStatus::Stopped | ExitStatus::Killed => format!("{name} {}", outcome.status),
    };
    output::note(&text);
}

/// Ends the process a moment after the deadline if a write to a full pipe holds the guest up: such
/// a call cannot be taken back. Disarmed when it is dropped.
struct DeadlineGuard {
    _disarm: Option<mpsc::Sender<()>>,
}

impl DeadlineGuard {
    fn arm(name: &str, policy: &Policy) -> DeadlineGuard {
        let Limit::AtMost(timeout) = policy.limits().timeout else {
            return DeadlineGuard { _disarm: None };
        };
        let message = format!("{name} timed out (limit {timeout})");
        let (disarm, disarmed) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let patience = timeout.duration() + Duration::from_millis(500);
            if disarmed.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                output::note(&message);
                end(ExitStatus::TimedOut.code());
            }
        });
        DeadlineGuard { _disarm: Some(disarm) }
    }
}

#[expect(clippy::exit, reason = "the main thread is held by a call that cannot be interrupted")]
fn end(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
