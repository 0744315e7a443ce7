//! From a program and a policy to its end: compile or find code, make scratch space, run, explain.

use std::fs::{self, File};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use mote_daemon::machine;
use mote_daemon::scratch::Scratch;
use mote_engine::{
    Apart, Blocking, Checks, Company, Control, Engine, EngineError, Gauge, Hosts, Launch, Module,
    Outcome, Process, RootFiles, Stdio, Trusted, Wanted,
};
use mote_image::Artifact;
use mote_lifecycle::{
    Container, Ended, Image, Live, Made, Record, RestartPolicy, Running, Setup, Time, Workload,
};
use mote_spec::{Ceiling, ContainerId, ContainerName, ExitStatus, Limit, Policy, Root};

use crate::app::App;
use crate::ends::{DeadlineGuard, Force, Interrupts};
use crate::error::CliError;
use crate::fetch::block_on_guest;
use crate::progress::{self, Show};

/// Finds the compiled code of a program, or compiles it.
pub(crate) fn compiled(
    app: &App,
    artifact: &Artifact,
    checks: Checks,
    show: Show,
) -> Result<Trusted, CliError> {
    if let Some(code) = app.machine.find_compiled(artifact, checks) {
        return Ok(code);
    }
    let what = format!("compiling {}", artifact.name);
    Ok(progress::spin(show, &what, || app.machine.compile(artifact, checks, &Wanted::ALWAYS))?)
}

/// A compiled program that is ready to be started where its policy says, with its files held.
pub(crate) struct Ready {
    place: Place,
    /// The tree must not be swept while the guest reads it.
    _tree: Option<File>,
}

/// Where a program is run.
enum Place {
    /// In this process, in the engine that its policy asks for.
    Here { engine: Engine, module: Module },
    /// In one of its own.
    Apart(Apart),
}

/// Compiles a program if that was not done before, and loads it. After that its image may go.
pub(crate) fn prepare(
    app: &App,
    artifact: &Artifact,
    policy: &Policy,
    (afterwards, show): (Afterwards, Show),
) -> Result<Ready, CliError> {
    let company = match afterwards {
        Afterwards::Ends => Company::Nobody,
        Afterwards::GoesOn => Company::Others,
    };
    let checks = Checks::of(policy, company);
    let code = compiled(app, artifact, checks, show)?;
    let place = match policy.security().is_apart() {
        true => Place::Apart(app.machine.apart(artifact.code.digest(), checks)),
        false => {
            let engine = Engine::new(app.profile(), checks, policy.limits().bounds.stack)?;
            let module = Module::load(&engine, &code)?;
            Place::Here { engine, module }
        }
    };
    let tree = artifact.rootfs.as_ref().map(|root| machine::hold(&root.tree)).transpose()?;
    Ok(Ready { place, _tree: tree })
}

/// What this process does after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It ends, so that it can give up what only the way to a run needs.
    Ends,
    /// It starts others.
    GoesOn,
}

/// What is run, beside its program and its policy.
pub(crate) struct Start<'a> {
    pub(crate) artifact: &'a Artifact,
    pub(crate) name: Option<ContainerName>,
    pub(crate) process: Process,
    pub(crate) stdio: Stdio,
    pub(crate) afterwards: Afterwards,
}

/// Runs a program under a policy, and returns how it ended. While it runs it is listed by `mote ps`,
/// and takes commands of other terminals.
pub(crate) fn run(
    app: &App,
    ready: Ready,
    policy: &Policy,
    start: Start<'_>,
) -> Result<Finished, CliError> {
    let Start { artifact, name, process, stdio, afterwards } = start;
    let root = artifact.rootfs.as_ref().map(|root| RootFiles {
        tree: root.tree.clone(),
        program: root.program.clone(),
        size: policy.limits().storage.bound().unwrap_or(mote_spec::Scratch::DEFAULT_SIZE),
    });
    let copies_root = root.is_some() && policy.grants().root == Root::Copy;
    let scratch = match copies_root || !policy.grants().scratch.is_empty() {
        true => Some(Scratch::make(&app.machine.root)?),
        false => None,
    };
    let record = record(artifact, name, &process, policy)?;
    let live = live(app)?.enter(&record)?;
    let guest = Guest {
        ready,
        process,
        stdio,
        root,
        scratch: scratch.as_ref().map(|scratch| scratch.path().to_owned()),
    };
    let ceiling = app.machine.ceiling.clone();
    let hosted = async {
        // Everything that needs more than a host of guests may do comes before its threads.
        let started = guest.start(policy).await?;
        let hosts = if policy.security().is_apart() { Hosts::Processes } else { Hosts::Guests };
        match afterwards {
            Afterwards::Ends => mote_engine::harden(hosts)?,
            Afterwards::GoesOn => {}
        }
        // Without anything to clear away, a signal may end the process as it does any other.
        let interrupts = scratch.as_ref().map(|scratch| Interrupts::listen(scratch.path()));
        let interrupts = interrupts.transpose()?;
        let force = Force::new(artifact.name.clone(), &live, scratch.as_ref().map(Scratch::path));
        let force = Arc::new(force);
        let _guard = DeadlineGuard::arm(policy, Arc::clone(&force));
        let hosted = host(record, live, started, ceiling, force);
        match interrupts {
            Some(interrupts) => Ok(interrupts.or_end_of(hosted).await),
            None => Ok(Ok(hosted.await)),
        }
    };
    let ended: Result<_, CliError> = block_on_guest(hosted)?;
    drop(scratch);
    match ended? {
        Ok(ended) => ended,
        Err(signal) => Err(signal.carry_out()),
    }
}

/// The containers of this user's terminals.
pub(crate) fn live(app: &App) -> Result<Live, CliError> {
    Ok(Live::new(state_folder(app, "live")?))
}

fn record(
    artifact: &Artifact,
    name: Option<ContainerName>,
    process: &Process,
    policy: &Policy,
) -> Result<Record, CliError> {
    let mut random = [0; 32];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| CliError::new(format!("cannot draw a random id: {error}")))?;
    let id = ContainerId::new(random);
    let name = match name {
        Some(name) => name,
        None => id.short().parse().expect("the start of an id is a name"),
    };
    let made = Made {
        id,
        name,
        image: Image {
            name: artifact.name.clone(),
            digest: artifact.code.digest().clone(),
            manifest: None,
            files: None,
        },
        args: process.args.clone(),
        // It may hold secrets, and nobody starts this container again.
        env: Vec::new(),
        cwd: process.cwd.clone(),
        policy: policy.clone(),
        restart: RestartPolicy::No,
        setup: Setup::default(),
    };
    Ok(Record::new(made, Time::now()))
}

/// How a container of this terminal ended.
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) gauge: Arc<Gauge>,
    /// The policy that it was held to in the end.
    pub(crate) policy: Policy,
}

/// Drives the one container of this process to its end.
async fn host(
    record: Record,
    place: mote_lifecycle::Place,
    started: Started,
    ceiling: Ceiling,
    force: Arc<Force>,
) -> Result<Finished, CliError> {
    let (place, ended) = (Arc::new(place), Arc::new(Mutex::new(None)));
    let once = Once { guest: Mutex::new(Some(started)), ended: Arc::clone(&ended) };
    let (container, driver) = Container::drive(record, Arc::clone(&place), Arc::new(once));
    let served = place.serve(container.clone(), ceiling, move |how| force.end(how))?;
    let life = async {
        container.start().await?;
        container.wait(|record| !record.status().is_live()).await
    };
    let record = tokio::select! {
        biased;
        record = life => record?,
        () = driver => return Err(CliError::new("the container's driver ended before it")),
    };
    drop(served);
    let outcome = ended.lock().unwrap_or_else(PoisonError::into_inner).take();
    let outcome = match outcome {
        Some(outcome) => outcome?,
        // Somebody ended it: nobody knows more than the record.
        None => Outcome::of_status(record.ending().unwrap_or(ExitStatus::Killed)),
    };
    Ok(Finished { outcome, gauge: container.gauge(), policy: record.policy.clone() })
}

/// All that a guest is started with.
struct Guest {
    ready: Ready,
    process: Process,
    stdio: Stdio,
    root: Option<RootFiles>,
    scratch: Option<PathBuf>,
}

/// A guest that only has to be waited for.
struct Started {
    run: BoxFuture<Result<Outcome, EngineError>>,
    gauge: Arc<Gauge>,
    control: Arc<Control>,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Guest {
    /// Starts the process of a guest that has one of its own. The guest itself begins when its run is polled.
    async fn start(self, policy: &Policy) -> Result<Started, CliError> {
        let Guest { ready, process, stdio, root, scratch } = self;
        let gauge = Gauge::of(policy)
            .map_err(|error| CliError::new(format!("cannot make a gauge: {error}")))?;
        let (gauge, control) = (Arc::new(gauge), Arc::new(Control::new(policy.limits())));
        let policy = policy.clone();
        let held = (Arc::clone(&gauge), Arc::clone(&control));
        let with = With { process, stdio, root, scratch, held };
        let Ready { place, _tree } = ready;
        let run: BoxFuture<_> = match place {
            Place::Here { engine, module } => Box::pin(async move {
                let ended = mote_engine::run(&engine, &module, with.launch(&policy)).await;
                drop(_tree);
                ended
            }),
            Place::Apart(apart) => {
                let (_, run) = apart.start(with.launch(&policy)).await?;
                Box::pin(async move {
                    let ended = run.await;
                    drop(_tree);
                    ended
                })
            }
        };
        Ok(Started { run, gauge, control })
    }
}

/// What a guest is started with, but for its policy.
struct With {
    process: Process,
    stdio: Stdio,
    root: Option<RootFiles>,
    scratch: Option<PathBuf>,
    held: (Arc<Gauge>, Arc<Control>),
}

impl With {
    fn launch(self, policy: &Policy) -> Launch<'_> {
        let With { process, stdio, root, scratch, held: (gauge, control) } = self;
        let (begun, wall) = (None, None);
        Launch { policy, process, stdio, root, scratch, gauge, control, begun, wall }
    }
}

/// A workload that is started once, as a terminal's is.
struct Once {
    guest: Mutex<Option<Started>>,
    ended: Arc<Mutex<Option<Result<Outcome, EngineError>>>>,
}

impl Workload for Once {
    async fn start(&self, _record: &Record) -> Result<Running, String> {
        let guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Started { run, gauge, control } = guest.ok_or("a container of a terminal runs once")?;
        let ended = Arc::clone(&self.ended);
        let guest = async move {
            let outcome = run.await;
            let how = match &outcome {
                Ok(outcome) => Ended { status: outcome.status, detail: outcome.detail.clone() },
                Err(error) => {
                    Ended { status: ExitStatus::NotStarted, detail: Some(error.to_string()) }
                }
            };
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            how
        };
        Ok(Running { guest: Box::pin(guest), gauge, control })
    }
}

/// Whether the guest's file operations may hold up this process, which makes them ten times as quick:
/// nobody can be hurt but itself, and no deadline waits.
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

/// Makes the folder of the volatile state.
pub(crate) fn own_state(app: &App) -> Result<(), CliError> {
    state_folder(app, "live").map(drop)
}

/// Makes a folder of the volatile state, and refuses one that is somebody else's: it may be below
/// `/tmp`, where everybody can be first.
fn state_folder(app: &App, name: &str) -> Result<PathBuf, CliError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let path = app.machine.state.join(name);
    let failed =
        |why: String| CliError::new(format!("cannot use {}: {why}", app.machine.state.display()));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| failed(error.to_string()))?;
    for folder in [&app.machine.state, &path] {
        let found = fs::symlink_metadata(folder).map_err(|error| failed(error.to_string()))?;
        let ours = found.uid() == rustix::process::geteuid().as_raw() && found.is_dir();
        if !ours || found.mode() & 0o022 != 0 {
            return Err(failed("it is not a folder that only this user may write to".to_owned())
                .hint("name another place with --state DIR"));
        }
    }
    Ok(path)
}
